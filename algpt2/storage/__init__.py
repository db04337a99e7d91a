"""Files on disk and on Google Cloud Storage, written whole or not at all; JSON files; the locks of a run's folder.

The functions of `files.py` are used everywhere, so the room itself gives their names: `storage.join`, `storage.of`.
"""

from algpt2.storage.files import (
    LocalCopies,
    Storage,
    base_name,
    delete_temporary_files,
    exists,
    expand,
    failed_write,
    file_sha256,
    is_pattern,
    is_remote,
    join,
    local_copy,
    naming_errors,
    of,
    parent,
    read_bytes,
    read_text,
    require_empty,
    trim,
    write_bytes,
    write_hashed,
    write_text,
    writing,
)
from algpt2.storage.folders import writing_folder

__all__ = [
    "LocalCopies",
    "Storage",
    "base_name",
    "delete_temporary_files",
    "exists",
    "expand",
    "failed_write",
    "file_sha256",
    "is_pattern",
    "is_remote",
    "join",
    "local_copy",
    "naming_errors",
    "of",
    "parent",
    "read_bytes",
    "read_text",
    "require_empty",
    "trim",
    "write_bytes",
    "write_hashed",
    "write_text",
    "writing",
    "writing_folder",
]
