"""Shards that are missing or damaged, made anew of the text that the records were made of; the others stay untouched.

Where a shard's records lie in the stream follows from all documents, so all text is read again. The work is that of a
preparation, in the folder `repair` inside the records', where the sound shards count as written. A repair that is
killed is gone on with by the same call.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.preparation.encoding import TRAIN, VAL
from algpt2.preparation.plan import Command, Plan, make_plan
from algpt2.preparation.pool import workers
from algpt2.preparation.preparation import encode_pieces, write_shards
from algpt2.preparation.provenance import Provenance, provenance_of, read_provenance
from algpt2.preparation.work_folder import WorkFolder, opened_work
from algpt2.records.manifest import Manifest, Shard, read_manifest
from algpt2.records.record_set import load_tokenizer
from algpt2.records.verification import damaged_shards, verify
from algpt2.text.tokenizer import Tokenizer

REPAIR_FOLDER = "repair"
SHARD_SUFFIX = ".tfrecord"


def repair(
    folder: str, sources: Sequence[str] = (), num_workers: int = 1, encoder: str | None = None
) -> dict[str, Any]:
    """Makes the missing and damaged shards of a folder anew, and verifies all of it.

    Args:
      folder: of records that make_tfrecords.py made, on disk or gs://.
      sources: files, folders and patterns where the text lies now; none means that it lies where it was.
      num_workers: processes that share the work.
      encoder: the library that makes ids, which changes none of them; None is the one that made the records.

    Returns:
      What `verify` returns, and in `repaired` the names of the shards by what was wrong with them.

    Raises:
      UserError: the folder is none of such records, or another process repairs it; the text is not there, or is not
        the one that the records were made of; or what is made anew is not what the manifest says.
    """
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder, manifest.tokenizer_sha256)
    damaged = damaged_shards(folder, manifest)
    names = {name for of_kind in damaged.values() for name in of_kind}
    workplace = storage.join(folder, REPAIR_FOLDER)
    if names:
        provenance = read_provenance(folder, manifest)
        command = _command(provenance, sources, encoder)
        _Repair(folder, manifest, provenance, names).run(command, tokenizer, num_workers)
    elif WorkFolder(workplace).is_begun():
        _delete_work(workplace)
    return {**verify(folder), "repaired": damaged}


def _command(provenance: Provenance, sources: Sequence[str], encoder: str | None) -> Command:
    """Returns the command that made the records, for where the text lies now."""
    command = provenance.command
    options = dataclasses.replace(command.options, encoder=encoder or command.options.encoder)
    return dataclasses.replace(command, inputs=tuple(sources) or command.inputs, options=options)


class _Repair:
    """The repair of the shards of some names, in one folder."""

    def __init__(self, folder: str, manifest: Manifest, provenance: Provenance, names: Collection[str]):
        self._folder = folder
        self._workplace = storage.join(folder, REPAIR_FOLDER)
        self._manifest = manifest
        self._provenance = provenance
        self._names = names

    def run(self, command: Command, tokenizer: Tokenizer, num_workers: int) -> None:
        plan = self._plan(command, tokenizer)
        with opened_work(self._workplace, plan) as work_folder:
            self._mark_sound_shards(plan, work_folder)
            with workers(min(num_workers, len(plan.pieces)), plan, tokenizer, self._workplace) as pool:
                encode_pieces(plan, work_folder, pool)
                self._require_same_content(plan, work_folder)
                splits = write_shards(plan, work_folder, pool)
            self._require_same_shards({shard.name: shard for split in splits.values() for shard in split.shards})
            for name in sorted(self._names):
                self._put_in_place(name)
            _delete_work(self._workplace)

    def _plan(self, command: Command, tokenizer: Tokenizer) -> Plan:
        """Returns the plan; raises `UserError` unless the files are as many, and as large, as those of the records."""
        plan = make_plan(command, tokenizer.vocab_size)
        found, expected = plan.files, self._provenance.files
        for file, source in zip(found, expected, strict=False):
            _require_same(file.size_bytes == source.size_bytes, file.path, source.path)
        if len(found) != len(expected):
            raise UserError(
                f"text must be the {len(expected)} files that the records were made of, and {len(found)} are there: "
                "name with --sources what --input named, and nothing more."
            )
        return plan

    def _mark_sound_shards(self, plan: Plan, work_folder: WorkFolder) -> None:
        """Says that the sound shards are written, and that others are not, unless an earlier call has made them."""
        for split in (TRAIN, VAL):
            for index, shard in enumerate(getattr(self._manifest, split).shards):
                if shard.name not in self._names:
                    work_folder.put_shard(plan, split, index, shard)
                elif not storage.exists(self._made(shard.name)):
                    work_folder.delete_shard(plan, split, index)

    def _require_same_content(self, plan: Plan, work_folder: WorkFolder) -> None:
        found = provenance_of(plan, work_folder).files
        for file, source in zip(found, self._provenance.files, strict=True):
            if file.crc32c != source.crc32c:
                _delete_work(self._workplace)  # so that a call with other sources can follow
            _require_same(file.crc32c == source.crc32c, file.path, source.path)

    def _require_same_shards(self, made: dict[str, Shard]) -> None:
        expected = {shard.name: shard for shard in (*self._manifest.train.shards, *self._manifest.val.shards)}
        for name in sorted(self._names):
            path = self._made(name)
            if made.get(name) != expected[name] or storage.of(path).crc32c(path) != expected[name].crc32c:
                raise UserError(
                    f"{name} made anew must be the shard of the manifest, and it is another ({path}): another version "
                    "of this program made the records; make all of them anew, or copy it from where they were made."
                )

    def _put_in_place(self, name: str) -> None:
        path, target = self._made(name), storage.join(self._folder, name)
        with storage.local_copy(path) as local_file:
            storage.of(target).publish(local_file, target)
        if storage.is_remote(path):
            storage.of(path).delete_file(path)

    def _made(self, name: str) -> str:
        return storage.join(self._workplace, name)


def _delete_work(workplace: str) -> None:
    """Deletes a repair's work, in an order in which a kill leaves what the next call knows as a repair's."""
    for name in map(storage.base_name, storage.of(workplace).list_files(workplace)):
        if name.endswith(SHARD_SUFFIX):
            storage.of(workplace).delete_file(storage.join(workplace, name))
    WorkFolder(workplace).delete()


def _require_same(is_same: bool, path: str, recorded: str) -> None:
    if not is_same:
        named = path if path == recorded else f"{path}, in the place of {recorded},"
        raise UserError(
            f"shards are made anew of the text that the records were made of, and {named} is another file: name with "
            "--sources where that text lies."
        )
