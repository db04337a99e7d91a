"""A study's report as Markdown, as one HTML page that needs nothing but itself, and as tables for a terminal."""

import html
from collections.abc import Iterator, Sequence

from algpt2.studies.sections import Chart, Section, Table
from algpt2.tables import markdown
from algpt2.tracking import report_charts
from algpt2.tracking.report import STYLE

MADE_BY = "Made by ablations/report.py: edit the study, not this file."
PLOTS_FOLDER = "plots"
PAGE_STYLE = f"""{STYLE}
h1 {{ max-width: 40em; }}
p, li {{ max-width: 60em; }}
th.prose, td.prose {{ text-align: left; white-space: normal; min-width: 16em; }}
th:first-child, td:first-child {{ text-align: left; color: #1a1a1a; }}
td {{ vertical-align: top; }}
"""


def plot_path(chart: Chart) -> str:
    """Returns the file of a chart, relative to the study's folder."""
    return f"{PLOTS_FOLDER}/{chart.name}.svg"


def to_markdown(question: str, parts: Sequence[Section]) -> str:
    """Returns the report as Markdown, which shows the charts of `plot_path`."""
    blocks = [f"<!-- {MADE_BY} -->", f"# {_one_line(question)}"]
    for part in parts:
        blocks += [f"## {part.title}", *_text_blocks(part), *(_image(chart) for chart in part.charts)]
    return "\n\n".join(blocks) + "\n"


def to_text(question: str, parts: Sequence[Section]) -> str:
    """Returns the report's sentences and tables for a terminal."""
    blocks = [_one_line(question)]
    for part in parts:
        blocks += [part.title.upper(), *_text_blocks(part)]
    return "\n\n".join(blocks)


def to_html(question: str, parts: Sequence[Section]) -> str:
    """Returns the report as a page with its charts within it."""
    title = html.escape(_one_line(question))
    body = "\n".join(block for part in parts for block in _html_blocks(part))
    return f"""<!DOCTYPE html>
<!-- {MADE_BY} -->
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{PAGE_STYLE}</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def _text_blocks(part: Section) -> Iterator[str]:
    yield from map(_one_line, part.sentences)
    if part.table:
        yield _markdown_table(part.table)
    if part.notes:
        yield "\n".join(f"- {_one_line(note)}" for note in part.notes)


def _markdown_table(table: Table) -> str:
    return markdown([[cell.replace("|", "\\|") for cell in row] for row in (table.head, *table.rows)])


def _image(chart: Chart) -> str:
    return f"![{chart.title}]({plot_path(chart)})"


def _html_blocks(part: Section) -> Iterator[str]:
    yield f"<h2>{html.escape(part.title)}</h2>"
    yield from (f"<p>{html.escape(sentence)}</p>" for sentence in part.sentences)
    if part.table:
        yield f'<div class="wide">{_html_table(part.table)}</div>'
    if part.notes:
        yield f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in part.notes)}</ul>"
    if part.charts:
        yield f'<div class="charts">{"".join(map(_figure, part.charts))}</div>'


def _html_table(table: Table) -> str:
    rows = [("th", table.head), *(("td", row) for row in table.rows)]
    return f"<table>{''.join(f'<tr>{_html_cells(table, kind, row)}</tr>' for kind, row in rows)}</table>"


def _html_cells(table: Table, kind: str, row: Sequence[str]) -> str:
    classes = [' class="prose"' if number in table.prose else "" for number in range(len(row))]
    return "".join(f"<{kind}{one}>{html.escape(cell)}</{kind}>" for one, cell in zip(classes, row, strict=True))


def _figure(chart: Chart) -> str:
    title, source = html.escape(chart.title), report_charts.data_uri(chart.image)
    return f'<figure><img alt="{title}" src="{source}"><figcaption>{title}.</figcaption></figure>'


def _one_line(text: str) -> str:
    return " ".join(text.split())
