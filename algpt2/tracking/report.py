"""One HTML page about several training runs, finished or not: curves over tokens and a table."""

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import Any

from algpt2 import storage
from algpt2.config.model import GPTConfig, config_from_dict
from algpt2.errors import UserError
from algpt2.evaluation.published import GPT2_VOCAB_SIZE
from algpt2.model.sizes import training_flops_per_token
from algpt2.runs.folder import MADE_BY, METRICS_NAME, RUN_NAME, read_result
from algpt2.storage import json_files
from algpt2.tracking import report_charts
from algpt2.tracking.metrics import read_metrics
from algpt2.tracking.report_charts import BENCHMARK_CHARTS, CHARTS, Chart, Curve, validation_chart

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1500px; margin: 2em auto;
       padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: .2em; }
h2 { font-size: 1.15em; margin: 1.6em 0 .4em; }
ul.legend { display: flex; flex-wrap: wrap; gap: .3em 1.6em; list-style: none; padding: 0; }
.swatch { display: inline-block; width: 1.6em; height: .3em; vertical-align: middle; margin-right: .5em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30em), 1fr)); gap: 1em 1.5em; }
figure { margin: 0; }
figure img { width: 100%; height: auto; }
figcaption { color: #555; font-size: .9em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .25em 1.4em .25em 0; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap;
         font-variant-numeric: tabular-nums; }
th { max-width: 11em; white-space: normal; overflow-wrap: anywhere; vertical-align: bottom; }
th:first-child { text-align: left; font-weight: normal; color: #555; max-width: none; white-space: nowrap; }
tr.section th { padding-top: 1em; font-weight: bold; color: #1a1a1a; }
"""


@dataclasses.dataclass(frozen=True)
class RunHistory:
    """What a run's folder says of it. `result` is None until the run has finished."""

    name: str
    model_config: GPTConfig
    train_config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any] | None

    def curve(self, key: str) -> Curve:
        """Returns a metric over training tokens, without the lines that lack it."""
        tokens_per_step = self.train_config["batch_size"] * self.model_config.seq_len
        points = [(line["step"] * tokens_per_step, line[key]) for line in self.metrics if line.get(key) is not None]
        return Curve(self.name, points)

    def last(self, key: str) -> Any:
        """Returns a metric's last value, or None."""
        return next((line[key] for line in reversed(self.metrics) if line.get(key) is not None), None)


def write_report(
    folders: Sequence[str], output: str, overwrite: bool = False, validation_data: str | None = None
) -> dict[str, Any]:
    """Writes the page; returns where it is and the table's figures.

    Args:
      folders: of the runs.
      output: the page.
      overwrite: whether it may exist.
      validation_data: the published data set that the validation records of all runs are of, a key of
        `VALIDATION_BASELINES`; their loss is then drawn beside its published figures.

    Raises:
      UserError: the page exists already, a folder is named twice or holds no run with metrics, or no matplotlib.
    """
    if storage.exists(output) and not overwrite:
        raise UserError(f"--output must be a new file, and {output} exists: name another, or add --overwrite.")
    runs = read_runs(folders)
    storage.write_text(output, render(runs, validation_data))
    return {"output": output, "runs": [{"name": run.name, **_figures(run)} for run in runs]}


def read_runs(folders: Sequence[str]) -> list[RunHistory]:
    """Returns the runs in these folders, named by as much of their paths as tells them apart.

    Raises:
      UserError: a folder is named twice or holds no run with metrics.
    """
    paths = [storage.trim(folder) for folder in folders]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise UserError(f"every run may be named once, and {twice[0]} is named more often: leave out one of them.")
    short = [storage.base_name(path) for path in paths]
    names = short if len(set(short)) == len(short) else paths
    return [_read_run(path, name) for path, name in zip(paths, names, strict=True)]


def render(runs: Sequence[RunHistory], validation_data: str | None = None) -> str:
    """Returns the page; see `write_report` for what it shows."""
    title = f"{len(runs)} training run{'s' if len(runs) > 1 else ''}"
    swatches = [
        f'<li><span class="swatch" style="background: {report_charts.colour(i)}"></span>{html.escape(run.name)}</li>'
        for i, run in enumerate(runs)
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{STYLE}</style></head>
<body>
<h1>{title}</h1>
<ul class="legend">{"".join(swatches)}</ul>
<div class="charts">{"".join(_figure(chart, runs) for chart in _charts(runs, validation_data))}</div>
<h2>Figures</h2>
<div class="wide">{_table(runs)}</div>
</body>
</html>
"""


def _read_run(folder: str, name: str) -> RunHistory:
    metrics = read_metrics(folder)
    if not metrics:
        raise UserError(
            f"a run must have metrics to be reported, and {folder} has none in {METRICS_NAME}: name the --model_dir of "
            f"a run that has logged something."
        )
    path = storage.join(folder, RUN_NAME)
    if not storage.exists(path):
        raise UserError(f"a run's folder must hold {RUN_NAME}, and {folder} does not: name a run's --model_dir.")
    run = json_files.read_object(path, MADE_BY, ("model_config", "train_config"))
    sizes = {"model_config": set(), "train_config": {"batch_size", "total_steps"}}
    if not all(_has_sizes(run[key], names) for key, names in sizes.items()):
        raise UserError(f"{path} must describe a run as {MADE_BY} writes it, and does not: name a run's --model_dir.")
    return RunHistory(
        name=name,
        model_config=config_from_dict(run["model_config"], path),
        train_config=run["train_config"],
        metrics=metrics,
        result=read_result(folder),
    )


def _charts(runs: Sequence[RunHistory], validation_data: str | None) -> list[Chart]:
    """Returns the charts of the page, in their order.

    Raises:
      UserError: a loss per token cannot be compared, because a model's tokenizer is not GPT-2's.
    """
    charts = [chart for chart in BENCHMARK_CHARTS if any(run.curve(chart.key).points for run in runs)]
    if validation_data is None:
        return [*CHARTS, *charts]
    for run in runs:
        if run.model_config.vocab_size < GPT2_VOCAB_SIZE:
            raise UserError(
                f"--validation_data compares losses per token, for which a run must have GPT-2's tokenizer of "
                f"{GPT2_VOCAB_SIZE} ids, and {run.name} has {run.model_config.vocab_size}: leave the flag out."
            )
    return [*CHARTS, validation_chart(validation_data), *charts]


def _has_sizes(settings: Any, names: Iterable[str]) -> bool:
    return isinstance(settings, dict) and all(type(settings.get(name)) is int for name in names)


def _figure(chart: Chart, runs: Sequence[RunHistory]) -> str:
    curves = [run.curve(chart.key) for run in runs]
    without = [curve.name for curve in curves if not curve.points]
    if len(without) == len(runs):
        return f"<figure><h2>{chart.title}</h2><figcaption>No run has logged this.</figcaption></figure>"
    notes = [f"Not logged: {', '.join(without)}."] if without else []
    if any(len(curve.points) > report_charts.MOST_POINTS for curve in curves):
        notes.append(f"Neighbouring values averaged to at most {report_charts.MOST_POINTS} points a run.")
    notes += [f"{one.model}: {one.value:g} ({one.source})." for one in chart.baselines]
    note = f"<figcaption>{html.escape(' '.join(notes))}</figcaption>"
    source = report_charts.svg_data_uri(chart, curves)
    return f'<figure><h2>{chart.title}</h2><img alt="{chart.title} over training tokens" src="{source}">{note}</figure>'


def _figures(run: RunHistory) -> dict[str, Any]:
    """The table's rows of one run; what is unknown is None."""
    config, step = run.model_config, run.metrics[-1]["step"]
    tokens = step * run.train_config["batch_size"] * config.seq_len
    return {
        "model": f"{config.model_type}, {config.n_layer} x {config.d_model}",
        "status": "finished" if run.result else "unfinished",
        "parameters": config.parameter_count(),
        "step": step,
        "of steps": run.train_config["total_steps"],
        "tokens": tokens,
        "training FLOPs": float(tokens * training_flops_per_token(config)),
        "last training loss (nats per token)": run.last("loss"),
        "last validation loss (nats per token)": run.last("val_loss"),
        "last validation bits per byte": run.last("val_bits_per_byte"),
        "MFU": run.last("mfu"),
        "seconds of writing checkpoints": (run.result or {}).get("checkpoint_seconds"),
        "seconds held up by checkpoints": (run.result or {}).get("checkpoint_wait_seconds"),
        "tokens/s": (run.result or {}).get("tokens_per_second") or run.last("tokens_per_second"),
    }


def _differences(runs: Sequence[RunHistory]) -> dict[str, list[Any]]:
    """Returns each run's value of every setting that is not the same in all."""
    settings = [{**run.model_config.to_dict(), **run.train_config} for run in runs]
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    values = {name: [setting.get(name) for setting in settings] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def _table(runs: Sequence[RunHistory]) -> str:
    figures = [_figures(run) for run in runs]
    rows = [_row(name, [_text(figure[name]) for figure in figures]) for name in figures[0]]
    header = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *(run.name for run in runs)))
    if len(runs) > 1:
        rows.append(f'<tr class="section"><th colspan="{len(runs) + 1}">Settings that differ</th></tr>')
        differing = _differences(runs)
        rows += [_row(name, [_setting(value) for value in row]) for name, row in differing.items()]
        rows += [] if differing else [f'<tr><th colspan="{len(runs) + 1}">none</th></tr>']
    return f"<table><tr>{header}</tr>{''.join(rows)}</table>"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3e}" if value >= 1e9 else f"{value:,.0f}" if value >= 1000 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _setting(value: Any) -> str:
    return "-" if value is None else str(value)
