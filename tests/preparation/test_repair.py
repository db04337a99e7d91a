"""Damaged shards are made anew of the text, byte by byte, and nothing else in the folder is touched."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from command_line import call
from wrong_input import flip_bit

from algpt2 import storage
from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import work
from algpt2.preparation.preparation import make_tfrecords
from algpt2.preparation.repair import repair
from algpt2.records.indexing import index_tfrecords
from algpt2.storage.local import LocalStorage
from algpt2.storage.versions import version_of
from algpt2.text.tokenizer import Tokenizer

TEXTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 7) for n in range(200)] + ["same", "same"]
FIRST, SECOND, LAST = (f"train-0000{n}-of-00003.tfrecord" for n in range(3))
VAL = "val-00000-of-00001.tfrecord"
VARIANTS = {
    "stream": {},
    "best-fit": {"packing": "best-fit"},
    "without copies": {"deduplicate": True},
}
DAMAGE = {
    "missing": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "altered": flip_bit,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"x"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with text in two files, and records of it by variant."""
    folder = tmp_path_factory.mktemp("original")
    Tokenizer.train(TEXTS, 300).save(str(folder / "tokenizer"))
    (folder / "text").mkdir()
    for name, texts in (("a.jsonl", TEXTS[:90]), ("b.jsonl", TEXTS[90:])):
        (folder / "text" / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for name, changes in VARIANTS.items():
        options = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2, **changes)
        make_tfrecords([str(folder / "text")], str(folder / "tokenizer"), str(folder / name), options)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy of records of a stream, to be spoilt."""
    return Path(shutil.copytree(original / "stream", tmp_path / "records"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def places(folder, but=()):
    """What a file gets anew when it is written: its inode, and the time of its last change."""
    status = {path.name: path.stat() for path in folder.iterdir() if path.name not in but}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in status.items()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_shard_is_made_anew_and_the_others_are_not_touched(original, tmp_path, variant, kind):
    folder = Path(shutil.copytree(original / variant, tmp_path / "records"))
    before = places(folder, but=[SECOND])
    DAMAGE[kind](folder / SECOND)
    found = repair(str(folder))
    kind = "altered" if kind == "longer" else kind
    assert found["repaired"] == {"missing": [], "truncated": [], "altered": [], kind: [SECOND]}
    assert contents(folder) == contents(original / variant)
    assert places(folder, but=[SECOND]) == before


def test_shards_of_both_splits_are_made_anew_by_several_processes(original, folder):
    before = places(folder, but=[FIRST, LAST, VAL])
    DAMAGE["truncated"](folder / FIRST)
    DAMAGE["missing"](folder / LAST)
    DAMAGE["altered"](folder / VAL)
    assert repair(str(folder), num_workers=2)["repaired"] == {
        **{"missing": [LAST], "truncated": [FIRST], "altered": [VAL]}
    }
    assert contents(folder) == contents(original / "stream")
    assert places(folder, but=[FIRST, LAST, VAL]) == before


def test_no_shard_but_the_broken_one_is_written(folder, monkeypatch):
    """Not even beside the others, which would take as much room as all of them."""
    written, write = [], work.write_shard
    monkeypatch.setattr(work, "write_shard", lambda path, *rest: written.append(path) or write(path, *rest))
    DAMAGE["missing"](folder / SECOND)
    repair(str(folder))
    assert written == [str(folder / "repair" / SECOND)]


def test_a_sound_folder_is_verified_and_left_as_it_is(folder):
    before = places(folder)
    found = repair(str(folder), ["/nowhere"])
    assert found["repaired"] == {"missing": [], "truncated": [], "altered": []}
    assert found["verified_bytes"] > 0
    assert places(folder) == before


class Killed(BaseException):
    """What nothing but a test catches."""


def calls_until_killed(monkeypatch, folder, last):
    """Repairs, and dies in the place of publishing file number `last`; returns how many were published."""
    published, publish = [], LocalStorage.publish

    def dying(self, local_file, path):
        if len(published) == last:
            raise Killed
        published.append(path)
        publish(self, local_file, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "publish", dying)
        with contextlib.suppress(Killed):
            repair(str(folder))
    return len(published)


def test_a_repair_that_dies_before_any_of_its_files_is_there_can_be_run_again(original, tmp_path, monkeypatch):
    """Catches work that counts as done and is not there, and a shard that lies in neither folder."""
    count = last = -1
    while count == last:
        last += 1
        folder = Path(shutil.copytree(original / "stream", tmp_path / f"records-{last}"))
        DAMAGE["missing"](folder / LAST)
        DAMAGE["truncated"](folder / FIRST)
        before = places(folder, but=[FIRST, LAST])
        count = calls_until_killed(monkeypatch, folder, last)
        repair(str(folder))
        assert contents(folder) == contents(original / "stream"), last
        assert places(folder, but=[FIRST, LAST]) == before
    assert last > 8


def test_a_shard_that_is_damaged_after_a_repair_has_died_is_made_anew_too(original, folder, monkeypatch):
    """Catches a shard that the first call marked as sound and the second believes."""
    DAMAGE["missing"](folder / LAST)
    calls_until_killed(monkeypatch, folder, 8)
    assert (folder / "repair").exists()
    DAMAGE["altered"](folder / FIRST)
    repair(str(folder))
    assert contents(folder) == contents(original / "stream")


def test_what_a_dead_repair_left_is_deleted_where_its_shard_came_back(original, folder, monkeypatch):
    DAMAGE["missing"](folder / LAST)
    count = calls_until_killed(monkeypatch, folder, -1)
    assert not (folder / "repair").exists()
    DAMAGE["missing"](folder / LAST)
    calls_until_killed(monkeypatch, folder, count - 1)
    assert (folder / "repair" / LAST).exists()
    shutil.copyfile(original / "stream" / LAST, folder / LAST)
    assert repair(str(folder))["repaired"]["missing"] == []
    assert not (folder / "repair").exists()


def test_text_that_lies_elsewhere_now_is_named(original, folder, tmp_path):
    shutil.copytree(original / "text", tmp_path / "moved")
    DAMAGE["missing"](folder / FIRST)
    repair(str(folder), [str(tmp_path / "moved")])
    assert contents(folder) == contents(original / "stream")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda text: (text / "b.jsonl").write_text('{"text": "x"}\n'),
            "b.jsonl, in the place of .*b.jsonl, is another",
        ),
        (
            lambda text: (text / "b.jsonl").write_bytes((text / "b.jsonl").read_bytes().replace(b"cat", b"dog")),
            "b.jsonl, in the place of .*b.jsonl, is another",
        ),
        (lambda text: (text / "c.jsonl").write_text('{"text": "x"}\n'), "must be the 2 files .* and 3 are there"),
        (lambda text: (text / "b.jsonl").unlink(), "must be the 2 files .* and 1 are there"),
    ],
    ids=["another size", "another content", "one more", "one less"],
)
def test_another_text_is_refused_by_name_and_the_right_one_is_taken_then(original, folder, tmp_path, change, found):
    text = Path(shutil.copytree(original / "text", tmp_path / "text"))
    change(text)
    DAMAGE["truncated"](folder / FIRST)
    before = places(folder)
    with pytest.raises(UserError, match=found):
        repair(str(folder), [str(text)])
    assert places(folder) == before
    repair(str(folder))
    assert contents(folder) == contents(original / "stream")


def test_records_that_were_made_elsewhere_are_not_made_anew(original, folder):
    for name in ("manifest.json", "sources.json", "tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()
    index_tfrecords(str(folder), str(original / "tokenizer"), "val*")
    DAMAGE["missing"](folder / FIRST)
    with pytest.raises(UserError, match="only records that make_tfrecords.py made can be made again"):
        repair(str(folder))


def test_records_on_cloud_storage_are_repaired_there(bucket, original, folder):
    remote = f"{bucket}/repaired"
    for file in folder.iterdir():
        if file.name != FIRST:
            storage.write_bytes(f"{remote}/{file.name}", file.read_bytes())
    versions = {file: version_of(file) for file in storage.expand(remote)}
    assert repair(remote)["repaired"]["missing"] == [FIRST]
    found = {storage.base_name(file): storage.read_bytes(file) for file in storage.expand(remote)}
    assert {name: data for name, data in found.items() if name != ".lock"} == contents(original / "stream")
    assert {file: version_of(file) for file in versions} == versions


def test_the_script_says_what_is_wrong_and_with_its_flag_mends_it(scripts, folder):
    DAMAGE["missing"](folder / FIRST)

    def called(*flags):
        return call(scripts["data_tools/verify_tfrecords.py"]["main"], ["--input", str(folder), *flags])

    found = called()
    assert found.status == 2
    assert f"{FIRST} is missing" in found.stderr
    assert "--sources is for --repair" in called("--sources", "x").stderr
    assert called("--repair").result["repaired"]["missing"] == [FIRST]
    assert called().result["verified_bytes"] > 0
