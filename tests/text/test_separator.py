"""Documents of plain text files between which a separator stands, read whole and in pieces."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algpt2.errors import UserError
from algpt2.text import separator as separator_module
from algpt2.text.documents import Keys, documents_of_piece, iterate_documents
from algpt2.text.input_files import pieces, sized_input_files
from algpt2.text.separator import Separator

EOT = Separator("<|endoftext|>")
SEPARATORS = ("-", "--", "-a-", "ab")
TEXTS = ["one", "two \u00e9\n<|", "", "|endoftext|>", "the last"]


def expected_parts(content, separator):
    """By a split of the whole file: but for nothing at both of its ends."""
    parts = content.split(separator)
    return parts[(0 if parts[0] else 1) : (len(parts) if parts[-1] else -1)] if content else []


@given(
    content=st.text("ab-", max_size=60), separator=st.sampled_from(["-", "--", "-a-", "ab"]), chunk=st.integers(1, 7)
)
def test_parts_are_those_of_the_whole_text_split(content, separator, chunk):
    """With chunks that end within a separator, and separators that overlap themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separator_module, "READ_BYTES", chunk)
        found = [*Separator(separator).parts(io.BytesIO(content.encode()), 0)]
    assert [part.decode() for _, part in found] == expected_parts(content, separator)
    assert all(content.encode()[byte:].startswith(part) for byte, part in found)


@pytest.mark.parametrize("suffix", ["txt", "raw", "txt.gz"])
def test_documents_of_a_file_are_those_between_which_the_separator_stands(tmp_path, suffix):
    content = EOT.text.join(["", *TEXTS, ""]).encode()
    (tmp_path / f"a.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    found = [*iterate_documents([str(tmp_path)], Keys(separator=EOT))]
    assert [document.text for document in found] == TEXTS
    assert {document.domain for document in found} == {str(tmp_path / f"a.{suffix}")}


@given(content=st.text("abc<>", max_size=80), piece_bytes=st.integers(1, 30))
def test_pieces_hold_each_document_once_and_in_order(tmp_path_factory, content, piece_bytes):
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text(content)
    separator = Separator("<ab>")
    cut = [*pieces(sized_input_files([str(folder)]), piece_bytes, separator)]
    counted = []
    found = [one.text for piece in cut for one in documents_of_piece(piece, Keys(separator=separator), counted.append)]
    assert found == expected_parts(content, "<ab>")
    assert sum(counted) == len(content)
    assert len(cut) == max(1, -(-len(content) // piece_bytes))


def test_a_file_is_cut_only_where_separators_cannot_overlap(tmp_path):
    (tmp_path / "a.txt").write_text("a\n\n\nb" * 100)
    files = sized_input_files([str(tmp_path)])
    assert len([*pieces(files, 50, Separator("\n\n"))]) == 1
    assert len([*pieces(files, 50, Separator("b"))]) == 10
    assert len([*pieces(files, 50)]) == 1


def test_what_is_not_utf8_is_named_by_its_byte_in_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one--two--th\xffree")
    with pytest.raises(UserError, match=r"byte 12 .* of .*a\.txt is not"):
        [*iterate_documents([str(tmp_path)], Keys(separator=Separator("--")))]


@pytest.mark.parametrize("text", ["", "\udcff"])
def test_a_separator_that_is_no_text_is_refused(text):
    with pytest.raises(UserError, match="document_separator must be"):
        Separator(text)
    assert Separator.of(None) is None
