import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import save_random
from tiny_models import ALGPT2_CONFIG

from algpt2.checkpoints.folder import checkpoint_folder, checkpoint_step, committed_checkpoints
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.runs.folder import RunIdentity, claim_run_folder
from algpt2.runs.rewind import rewind
from algpt2.storage.folder_lock import LOCK_NAME, locked

STEPS = (10, 20, 30)


@pytest.fixture
def folder(tmp_path):
    """A run with three checkpoints, metrics and a result."""
    run = tmp_path / "run"
    claim_run_folder(str(run), RunIdentity(ALGPT2_CONFIG, TrainConfig(total_steps=30), "abc"))
    for step in STEPS:
        save_random(checkpoint_folder(str(run), step), step)
    (run / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in STEPS))
    (run / "result.json").write_text('{"step": 30}')
    return run


def files(folder):
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != LOCK_NAME]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def steps_of(folder):
    return [checkpoint_step(one) for one in committed_checkpoints(str(folder))]


def test_the_checkpoint_becomes_the_newest_and_later_ones_are_moved_whole(folder):
    before = files(folder)
    result = rewind(str(folder), 10)
    assert steps_of(folder) == [10]
    assert result == {"model_dir": str(folder), "step": 10, "moved": 2, "moved_to": f"{folder}/rewound_1"}
    after = files(folder)
    for name, content in before.items():
        if "step_00000020" in name or "step_00000030" in name:
            assert after[name.replace("checkpoints", "rewound_1")] == content
    assert after["rewound_1/metrics.jsonl"] == before["metrics.jsonl"]
    assert after["result_step_00000030.json"] == before["result.json"]
    assert "result.json" not in after
    history = json.loads(after["run.json"])["history"]
    assert history == [{"step": 10, "rewound_from": 30, "moved_to": f"{folder}/rewound_1"}]


def test_a_second_rewind_keeps_what_the_first_one_kept(folder):
    rewind(str(folder), 20)
    rewind(str(folder), 10)
    assert (folder / "rewound_1" / "step_00000030").is_dir()
    assert (folder / "rewound_2" / "step_00000020").is_dir()


def test_an_interrupted_rewind_is_finished_by_the_next(folder, monkeypatch):
    from algpt2.storage.files import LocalStorage

    move = LocalStorage.move_folder

    def dying(self, source, target):
        if source.endswith("20"):
            raise KeyboardInterrupt
        move(self, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "move_folder", dying)
        with pytest.raises(KeyboardInterrupt):
            rewind(str(folder), 10)
    assert steps_of(folder) == [10, 20], "still the beginning of the run"
    rewind(str(folder), 10)
    assert steps_of(folder) == [10]


def test_a_step_without_a_checkpoint_is_refused_with_those_that_there_are(folder):
    before = files(folder)
    with pytest.raises(UserError, match="received 15: it has 10, 20, 30"):
        rewind(str(folder), 15)
    assert files(folder) == before


def test_a_damaged_checkpoint_is_refused_before_anything_is_moved(folder):
    model = folder / "checkpoints" / "step_00000010" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    before = files(folder)
    with pytest.raises(UserError, match="intact checkpoint.*another SHA-256.*name one of 20, 30"):
        rewind(str(folder), 10)
    assert files(folder) == before


def test_a_folder_that_is_being_trained_in_is_refused(folder):
    with locked(str(folder)), pytest.raises(UserError, match="one process at a time"):
        rewind(str(folder), 10)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds none"):
        rewind(str(tmp_path), 10)


def test_a_copy_of_a_checkpoint_is_not_rewound_to_and_stays_where_it_is(folder):
    """Its name is none that a run gives to a checkpoint."""
    copy = shutil.copytree(folder / "checkpoints" / "step_00000030", folder / "checkpoints" / "step_00000040_backup")
    with pytest.raises(UserError, match="received 40: it has 10, 20, 30"):
        rewind(str(folder), 40)
    assert rewind(str(folder), 20)["moved"] == 1
    assert (copy / "COMMITTED").exists()


def test_a_checkpoint_of_the_very_next_step_is_moved_too(tmp_path):
    claim_run_folder(str(tmp_path), RunIdentity(ALGPT2_CONFIG, TrainConfig(total_steps=3), "abc"))
    for step in (1, 2, 3):
        save_random(checkpoint_folder(str(tmp_path), step), step)
    assert rewind(str(tmp_path), 1)["moved"] == 2
    assert steps_of(tmp_path) == [1]
