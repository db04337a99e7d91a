"""Cloud Storage refuses, is away, or has no such bucket: one sentence of each command, and status 2 or 1."""

import pytest
from command_line import COMPARE, DEMO, EVALUATE, GENERATE, INSPECT, RECORDS, REPORT, TOKENIZER, TRAIN, case_name

from algpt2 import storage
from algpt2.storage import patience

# (script, what is changed of its command line). Each asks for gs://bucket/there first of all, which is a file.
ON_GS = [
    (DEMO, {"output": "gs://bucket/there"}),
    (TOKENIZER, {"input": "gs://bucket/there"}),
    (TOKENIZER, {"input": "gs://bucket/there*"}),
    (TOKENIZER, {"output": "gs://bucket/there"}),
    (RECORDS, {"input": "gs://bucket/there"}),
    (RECORDS, {"tokenizer": "gs://bucket/there"}),
    (INSPECT, {"input": "gs://bucket/there"}),
    (TRAIN, {"train_path": "gs://bucket/there"}),
    (TRAIN, {"config_path": "gs://bucket/there.json"}),
    (TRAIN, {"model_dir": "gs://bucket/there"}),
    (COMPARE, {"run": "gs://bucket/there"}),
    (COMPARE, {"evaluation": ["gs://bucket/there"] * 2}),
    (EVALUATE, {"data": "gs://bucket/there"}),
    (EVALUATE, {"checkpoint": "gs://bucket/there"}),
    (GENERATE, {"checkpoint": "gs://bucket/there"}),
    (REPORT, {"RUN": "gs://bucket/there"}),
    (REPORT, {"output": "gs://bucket/there"}),
]


@pytest.fixture
def call_on(run_script, good, tmp_path, monkeypatch):
    """Calls a script with some flags; a request that fails is given up soon."""
    monkeypatch.setattr(patience, "DEFAULT_SECONDS", 0.01)

    def call_on(script, changes):
        return run_script(script, {"good": good, "out": tmp_path / "out"}, **changes)

    return call_on


@pytest.mark.parametrize("case", ON_GS, ids=case_name)
@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ({}, 1, "Cloud Storage must answer, and no request about gs://bucket/there"),
        ({"status": 503}, 1, "injected"),
        ({"status": 403}, 2, "this account must have access to gs://bucket/there"),
    ],
    ids=["outage", "503", "403"],
)
def test_a_service_that_fails_is_one_sentence_that_names_the_path(cloud, call_on, case, fault, status, said):
    storage.write_text("gs://bucket/there", "{}")
    with cloud.failing(**fault):
        outcome = call_on(*case)
    assert (outcome.status, outcome.stdout) == (status, "")
    assert said in outcome.sentence


@pytest.mark.parametrize("case", ON_GS, ids=case_name)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gs://absent/there", "there is no gs://absent: name another"),
        ("gs:///there", "must name its bucket, as gs://BUCKET/NAME, and 'gs:///there"),
        ("gs://", "must name its bucket, as gs://BUCKET/NAME, and 'gs://"),
    ],
)
def test_a_bucket_that_is_missing_or_not_named_is_one_sentence(bucket, call_on, case, path, said):
    script, changes = case
    replaced = {
        name: [value.replace("gs://bucket/there", path) for value in (values if isinstance(values, list) else [values])]
        for name, values in changes.items()
    }
    outcome = call_on(script, replaced)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert said in outcome.sentence


def test_a_page_cannot_be_a_bucket(cloud, call_on):
    outcome = call_on(REPORT, {"output": "gs://bucket/"})
    assert outcome.status == 2
    assert "a file on gs:// must have a name, as gs://BUCKET/NAME" in outcome.sentence
