"""The demonstration corpus: docstrings only, each once, in one order, and what is held out is nowhere else."""

import json
import os

import pytest

from algpt2.errors import UserError
from algpt2.text import demo_corpus

SOURCE = b'''"""Module."""
import os
if True:
    class A:
        """Class."""
        def f(self):
            """Method.

            Indented.
            """
            def inner():
                "Inner."
        async def g(self):
            \'\'\'Async.\'\'\'
try:
    def h(): "   "
except ValueError:
    def h(): "Handler."
x = """Not a docstring."""
def no(): pass
'''


def test_docstrings_come_in_order_and_other_strings_do_not():
    assert demo_corpus.docstrings(SOURCE) == [
        "Module.",
        "Class.",
        "Method.\n\nIndented.",
        "Inner.",
        "Async.",
        "Handler.",
    ]


@pytest.mark.parametrize("source", [b"def", b"x = '\xff'", b'"""a\\ud800"""', b"\0"])
def test_a_source_that_is_not_python_text_is_refused(source):
    with pytest.raises((SyntaxError, ValueError)):
        demo_corpus.docstrings(source)


def test_warnings_about_other_people_s_code_are_not_shown(recwarn):
    assert demo_corpus.docstrings(rb'"""a \d"""') == [r"a \d"]
    assert not recwarn.list


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two roots with 400 documents, a copy of one, a link, a cache and a broken file."""
    library, packages = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    for folder in (library / "b", packages / "a", packages / "__pycache__"):
        folder.mkdir(parents=True)
    for number in range(400):
        (library / "b" / f"m{number:03d}.py").write_text(f'"""Document {number}."""\n')
    (packages / "a" / "copy.py").write_text('"""Document 7."""\n')
    (packages / "a" / "broken.py").write_text("print 'Python 2'\n")
    (packages / "__pycache__" / "x.py").write_text('"""Cached."""\n')
    os.symlink(library / "b" / "m001.py", packages / "a" / "linked.py")
    monkeypatch.setattr(demo_corpus, "installed_roots", lambda: [str(library), str(packages)])
    monkeypatch.setattr(demo_corpus, "python_help_topics", lambda: ["Topic.", "", "Document 9."])


def test_the_corpus_has_each_document_once_and_counts_what_it_leaves_out(installed, tmp_path):
    result = demo_corpus.write_demo_corpus(str(tmp_path / "out"))
    lines = (tmp_path / "out" / "corpus.jsonl").read_text().splitlines()
    corpus = [json.loads(line)["text"] for line in lines]
    heldout = (tmp_path / "out" / "heldout.txt").read_text().split("\n\n")
    # a/copy.py and a/linked.py come before b/m000.py, and the topics of help() come last.
    by_path = ["Document 7.", "Document 1.", *(f"Document {number}." for number in range(400)), "Topic."]
    in_order = list(dict.fromkeys(by_path))
    assert 0 < len(heldout) < 20
    assert corpus == [document for document in in_order if document not in heldout]
    assert heldout == [document for document in in_order if document in heldout]
    assert result == {
        "documents": len(corpus),
        "bytes": sum(map(len, corpus)),
        "heldout_documents": len(heldout),
        "heldout_bytes": sum(map(len, heldout)),
        "duplicates": 2,
        "unreadable_files": 1,
    }


def test_the_corpus_is_the_same_twice(installed, tmp_path):
    for name in ("one", "two"):
        demo_corpus.write_demo_corpus(str(tmp_path / name))
    for name in ("corpus.jsonl", "heldout.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(UserError, match="new or empty"):
        demo_corpus.write_demo_corpus(str(tmp_path))


def test_the_installed_python_has_sources_and_topics():
    files = demo_corpus.source_files(demo_corpus.installed_roots())
    assert any(file.endswith("/argparse.py") for file in files)
    assert any(file.endswith("/numpy/__init__.py") for file in files)
    assert len({os.path.realpath(file) for file in files}) == len(files)
    assert len(demo_corpus.python_help_topics()) > 50
