"""The scripts as functions: their names, a command line of each that works, and what a call comes to."""

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path
from unittest import mock

from places import REPOSITORY

from algpt2 import cli
from algpt2.devices import wheels

DEMO, TOKENIZER = "data_tools/make_demo_corpus.py", "data_tools/train_tokenizer.py"
RECORDS, INSPECT = "data_tools/make_tfrecords.py", "data_tools/inspect_tfrecords.py"
TRAIN, COMPARE = "train_tfrecords.py", "data_tools/compare_runs.py"
EVALUATE, GENERATE = "eval/wikitext.py", "generate.py"
REPORT, STUDY = "data_tools/report.py", "ablations/run.py"
VERIFY = "data_tools/verify_tfrecords.py"

VOCAB_SIZE, SEQ_LEN, STEPS = 300, 16, 30
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
SMALL = {"vocab_size": VOCAB_SIZE, "seq_len": SEQ_LEN, "n_layer": 1, "n_head": 2, "d_model": 32, "dropout": 0.0}
CONFIGS = {"gpt2": SMALL, "algpt2": {**SMALL, "embedding_size": 8, "share_layers": True}}

# A command line of every tool that works: {good} holds sound input, {out} does not exist yet.
GOOD = {
    DEMO: {"output": "{out}"},
    TOKENIZER: {"input": "{good}/corpus.jsonl", "vocab_size": VOCAB_SIZE, "output": "{out}"},
    RECORDS: {
        **{"input": "{good}/corpus.jsonl", "tokenizer": "{good}/tokenizer", "output": "{out}"},
        **{"seq_len": SEQ_LEN, "num_shards": 3, "val_fraction": 0.2},
    },
    INSPECT: {"input": "{good}/records", "count": 2},
    VERIFY: {"input": "{good}/records"},
    TRAIN: {
        **{"train_path": "{good}/records", "val_path": "{good}/records", "config_path": "{good}/algpt2.json"},
        **{"model_dir": "{out}", "steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "jit_compile": False},
        **{"log_every_steps": 5, "save_every_steps": 10},
    },
    COMPARE: {"run": ["{good}/gpt2", "{good}/algpt2"], "val_path": "{good}/records"},
    REPORT: {"RUN": ["{good}/gpt2", "{good}/algpt2"], "output": "{out}"},
    STUDY: {
        **{"SPEC": str(REPOSITORY / "tests" / "helpers" / "tiny_study.toml"), "output": "{out}"},
        **{"train_path": "{good}/records", "val_path": "{good}/records"},
    },
    EVALUATE: {"checkpoint": "{good}/algpt2", "data": "{good}/heldout.txt", "protocol": "raw"},
    GENERATE: {"checkpoint": "{good}/algpt2", "prompt": "alpha beta", "max_new_tokens": 5},
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str

    @property
    def result(self):
        """The one JSON object (or list) that must be all there is on stdout."""
        assert self.status == 0, self.stderr
        return json.loads(self.stdout)

    @property
    def sentence(self) -> str:
        """The one line that must be all there is on stderr, beside bars of progress."""
        lines = [line for line in self.stderr.splitlines() if line.strip() and not re.search(r"\[\d\d:\d\d", line)]
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        return lines[0]


def to_arguments(flags, places):
    """{'input': ['{good}/a', 'b'], 'dry_run': True} -> ['--input', '<good>/a', 'b', '--dry_run']."""
    arguments = []
    for name, value in flags.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if name.isupper():  # an argument without a flag
            arguments = [*(str(v).format(**places) for v in values), *arguments]
            continue
        arguments.append(f"--no-{name}" if value is False else f"--{name}")
        arguments += [str(v).format(**places) for v in values if not isinstance(v, bool)]
    return arguments


def without_xla():
    """Lets the scripts that the block calls compile nothing by XLA, as with the TPU's wheel: it takes seconds a graph.

    Scripts as processes do (`test_cli_processes.py`), and the tests of what scores and generates do.
    """
    return mock.patch.object(wheels, "has_host_compiler", return_value=False)


def call(main, arguments) -> Outcome:
    """Runs a script's main in this process, as `algpt2.cli.run` does, but `without_xla`."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), without_xla():
        try:
            status = cli.exit_status(main, arguments)
        except SystemExit as ended:  # argparse
            status = ended.code
    return Outcome(status, stdout.getvalue(), stderr.getvalue())


def snapshot(folder):
    """Every path below a folder, with the content of files."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(Path(folder).rglob("*"))}


def case_name(case):
    """('data_tools/report.py', {'output': 'x'}, ...) -> 'report-output=x'."""
    script, changes, *_ = case
    return f"{Path(script).stem}-{','.join(f'{name}={value}' for name, value in changes.items())}"[:100]
