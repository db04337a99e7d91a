"""The report of a study: its figures as JSON, and the files that show them in the study's folder."""

import dataclasses
import statistics
from typing import Any, NamedTuple

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.studies import pages
from algpt2.studies.analysis import analyse
from algpt2.studies.comparability import finished
from algpt2.studies.results import CellResult, Study
from algpt2.studies.sections import Speed, sections

REPORT_NAMES = ("report.md", "report.html")


class Report(NamedTuple):
    """A study's report.

    Attributes:
      figures: all of it as JSON takes it; what a clock has measured is under `speeds` alone.
      text: sentences and tables for a terminal.
      files: the content of each file by its path below the study's folder.
    """

    figures: dict[str, Any]
    text: str
    files: dict[str, bytes]


def make_report(study: Study) -> Report:
    """Returns the report of a study. Equal results give equal bytes.

    Raises:
      UserError: cells differ in tokens, data or tokenizer, or SciPy or matplotlib is not installed.
    """
    analysis, speeds = analyse(study), _speeds(study)
    parts = sections(analysis, speeds)
    plots = {pages.plot_path(chart): chart.image for part in parts for chart in part.charts}
    question = analysis.question
    texts = {"report.md": pages.to_markdown(question, parts), "report.html": pages.to_html(question, parts)}
    figures = dataclasses.asdict(analysis) | {
        "unfinished": [_unfinished(one) for one in analysis.unfinished],
        "cells": [_cell(one) for one in finished(study)],
        "speeds": [speed._asdict() for speed in speeds],
    }
    encoded = {name: text.encode("utf-8") for name, text in texts.items()}
    return Report(figures, pages.to_text(question, parts), plots | encoded)


def write_report(report: Report, folder: str) -> list[str]:
    """Writes the report's files into a study's folder, in the place of those of an earlier report.

    Returns:
      Their paths below the folder.

    Raises:
      UserError: a page of a report's name is there that this project did not make.
    """
    for name in REPORT_NAMES:
        _require_ours(storage.join(folder, name))
    for path, content in report.files.items():
        storage.write_bytes(storage.join(folder, path), content)
    return list(report.files)


def _require_ours(path: str) -> None:
    if storage.exists(path) and pages.MADE_BY.encode("utf-8") not in storage.read_bytes(path):
        raise UserError(
            f"a report replaces only a report, and {path} was not made by ablations/report.py: move it away."
        )


def _speeds(study: Study) -> list[Speed]:
    speeds = []
    for arm in study.spec.arms:
        known = [
            one.tokens_per_second
            for one in finished(study)
            if one.cell.arm == arm.name and one.tokens_per_second is not None
        ]
        speeds.append(Speed(arm.name, statistics.median(known) if known else None, len(known)))
    return speeds


def _cell(one: CellResult) -> dict[str, Any]:
    figures = {"val_bits_per_byte": one.val_bits_per_byte, "val_nats_per_token": one.val_nats_per_token}
    return dataclasses.asdict(one.cell) | figures


def _unfinished(one: CellResult) -> dict[str, Any]:
    return dataclasses.asdict(one.cell) | {"status": one.status, "reason": one.reason}
