"""`sources.json`: what a folder of records was made of, so that it can be proved, and made again.

The manifest keeps its SHA-256. It is a file of its own because an input may be thousands of files, and training, which
reads the manifest at every start, asks for none of them.
"""

import dataclasses

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.preparation.plan import Command, Plan
from algpt2.preparation.work_folder import WorkFolder
from algpt2.records.manifest import SOURCES_NAME, Manifest
from algpt2.storage import json_files
from algpt2.text.read_parts import Source, sources_of


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What records were made of; JSON on disk.

    Attributes:
      command: what was asked for.
      files: of the input, as they were read, in their order.
    """

    command: Command
    files: tuple[Source, ...]


def provenance_of(plan: Plan, folder: WorkFolder) -> Provenance:
    """Returns the provenance of a plan, all pieces of which are encoded."""
    parts = (part for named in plan.pieces for part in folder.encoded_piece(named.name).parts)
    return Provenance(plan.command, tuple(sources_of(parts)))


def write_provenance(output: str, provenance: Provenance) -> str:
    """Writes `sources.json`; returns its SHA-256 in hexadecimal."""
    text = json_files.dumps(dataclasses.asdict(provenance), indent=1) + "\n"
    return storage.write_hashed(storage.join(output, SOURCES_NAME), text.encode())


def read_provenance(folder: str, manifest: Manifest) -> Provenance:
    """Returns what the records of a folder were made of.

    Raises:
      UserError: it is not known, or the file is not the one whose hash the manifest has.
    """
    path = storage.join(folder, SOURCES_NAME)
    if manifest.sources_sha256 is None:
        raise UserError(
            f"only records that make_tfrecords.py made can be made again, and the manifest of {folder} names no "
            f"{SOURCES_NAME}: copy the shards again from where they were made."
        )
    if not storage.exists(path) or storage.file_sha256(path) != manifest.sources_sha256:
        raise UserError(
            f"{path} must be the file whose SHA-256 the manifest has, and is missing or another: copy it again."
        )
    with json_files.refusing(path, "be as make_tfrecords.py wrote it", "copy it again"):
        return json_files.build(Provenance, json_files.load_object(path))
