"""A corpus that every machine already has: the docstrings of the installed Python packages.

Source files are parsed, never imported. The text is English about code, about 26 MB where TensorFlow is installed:
enough to try the whole pipeline without a download.
"""

import ast
import hashlib
import json
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from algpt2 import interrupts, storage
from algpt2.processes import worker_processes
from algpt2.progress import progress_bar

CORPUS_NAME = "corpus.jsonl"
HELDOUT_NAME = "heldout.txt"
HELDOUT_ONE_IN = 100
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
FILES_PER_TASK = 64
STATEMENT_FIELDS = ("body", "orelse", "finalbody", "handlers", "cases")


def write_demo_corpus(folder: str) -> dict[str, int]:
    """Writes `corpus.jsonl` and `heldout.txt` (about 1% of the documents, in no other file) to a new folder.

    Returns:
      Counts: `documents` and UTF-8 `bytes` of the corpus, the same for what is held out, exact `duplicates` left
      out, and `unreadable_files`, which do not parse or are not text.

    Raises:
      UserError: the folder already holds something.
    """
    storage.require_empty(folder)
    documents, duplicates, unreadable_files = collect(source_files(installed_roots()), python_help_topics())
    heldout_set = {document for document in documents if _is_heldout(document)}
    heldout = [document for document in documents if document in heldout_set]
    corpus = [document for document in documents if document not in heldout_set]
    storage.write_text(storage.join(folder, HELDOUT_NAME), "\n\n".join(heldout))
    lines = (json.dumps({"text": document}, ensure_ascii=False) + "\n" for document in corpus)
    storage.write_text(storage.join(folder, CORPUS_NAME), "".join(lines))
    return {
        "documents": len(corpus),
        "bytes": _size_bytes(corpus),
        "heldout_documents": len(heldout),
        "heldout_bytes": _size_bytes(heldout),
        "duplicates": duplicates,
        "unreadable_files": unreadable_files,
    }


def collect(files: list[str], extra: Iterable[str] = ()) -> tuple[list[str], int, int]:
    """Returns the distinct docstrings of files, then of `extra`; the number of duplicates; of unreadable files."""
    documents, unreadable_files = [], 0
    for docstrings in _docstrings_of_files(files):
        documents += docstrings or []
        unreadable_files += docstrings is None
    documents += [document for document in extra if document.strip()]
    distinct = list(dict.fromkeys(documents))
    return distinct, len(documents) - len(distinct), unreadable_files


def installed_roots() -> list[str]:
    """Returns the folders of the standard library and of the installed packages, each once."""
    roots = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return list(dict.fromkeys(os.path.realpath(root) for root in roots))


def source_files(roots: Iterable[str]) -> list[str]:
    """Returns the `.py` files below the roots, sorted by their path relative to their root; no file twice."""
    relative = sorted((os.path.relpath(file, root), file) for root in roots for file in _python_files(root))
    first_of_real_path: dict[str, str] = {}
    for _, file in relative:
        first_of_real_path.setdefault(os.path.realpath(file), file)
    return list(first_of_real_path.values())


def python_help_topics() -> list[str]:
    """Returns the texts of Python's own `help()`, sorted by topic."""
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def docstrings(source: bytes) -> list[str]:
    """Returns the docstrings of a module, its classes and functions, in the order of the file, no empty ones.

    Raises:
      SyntaxError, ValueError, RecursionError: the source does not parse, or a docstring is not valid Unicode.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's code
        tree = ast.parse(source)
    texts = [ast.get_docstring(node) for node in _documented_nodes(tree)]
    present = [text for text in texts if text and text.strip()]
    "".join(present).encode("utf-8")  # an escaped lone surrogate has no UTF-8 form
    return present


def _documented_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes that can have a docstring. It visits statements only, because expressions hold none."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node
    for field in STATEMENT_FIELDS:
        children = getattr(node, field, ())
        for child in children if isinstance(children, list) else ():
            yield from _documented_nodes(child)


def _docstrings_of_files(files: list[str]) -> Iterator[list[str] | None]:
    with worker_processes() as pool, progress_bar("parsing sources", "file", len(files)) as progress:
        with interrupts.held_back():  # The workers start here, and Ctrl-C at a terminal is for their parent to answer.
            results = pool.map(_docstrings_of_file, files, chunksize=FILES_PER_TASK)
        for result in results:
            progress.update(1)
            yield result


def _docstrings_of_file(file: str) -> list[str] | None:
    """Returns None for a file that cannot be read."""
    try:
        return docstrings(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _python_files(root: str) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        skipped = ("__pycache__", *PACKAGE_FOLDERS)  # the standard library's folder may hold the packages' folder
        subfolders[:] = [name for name in subfolders if name not in skipped]
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))


def _is_heldout(document: str) -> bool:
    digest = hashlib.blake2b(document.encode("utf-8"), digest_size=8, person=b"algpt2-heldout")
    return int.from_bytes(digest.digest(), "little") % HELDOUT_ONE_IN == 0


def _size_bytes(documents: list[str]) -> int:
    return sum(len(document.encode("utf-8")) for document in documents)
