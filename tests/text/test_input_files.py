"""Pieces of the input hold every document once, however it is cut."""

import io
import json
import time

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.local import LocalStorage
from algpt2.text.documents import Keys, documents_of_piece, iterate_documents
from algpt2.text.input_files import input_bytes, pieces, sized_input_files

TEXTS = [f"text {number} " + "\u00e9" * (number * 7 % 40) for number in range(50)] + ["", "last"]


def write_lines(path, texts, end="\n"):
    path.write_text("\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts) + end)


def read_in_pieces(folder, piece_bytes):
    found = pieces(sized_input_files([str(folder)]), piece_bytes)
    return [[one.text for one in documents_of_piece(piece, Keys(), lambda count: None)] for piece in found]


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("piece_bytes", [1, 17, 200, 10_000])
def test_pieces_of_lines_hold_each_document_once_and_in_order(tmp_path, piece_bytes, end):
    write_lines(tmp_path / "a.jsonl", TEXTS, end)
    found = read_in_pieces(tmp_path, piece_bytes)
    assert [text for piece in found for text in piece] == TEXTS
    assert len(found) == -(-input_bytes([str(tmp_path)]) // piece_bytes)


def test_small_files_share_a_piece_and_a_large_one_is_cut(tmp_path):
    for name in ("a", "b", "d"):
        (tmp_path / f"{name}.txt").write_text(name * 30)
    write_lines(tmp_path / "c.jsonl", TEXTS)
    (tmp_path / "e.txt").write_text("e" * 5000)  # one document, so it is in one piece
    found = list(pieces(sized_input_files([str(tmp_path)]), 100))
    names = [[file.path[-5:].split("/")[-1] for file in piece.files] for piece in found]
    assert names[:1] == [["a.txt", "b.txt"]]
    assert names[-2:] == [["d.txt"], ["e.txt"]]
    assert len(found) > 10
    assert sum(piece.size_bytes for piece in found) == input_bytes([str(tmp_path)])
    assert all(piece.size_bytes <= 100 for piece in found[:-1])


@pytest.mark.parametrize("path", ["gs://bucket/many", "gs://bucket/many/*.txt"])
def test_many_objects_are_asked_about_several_at_a_time(cloud, path):
    """One after the other, ten thousand would take half an hour before the first byte is read."""
    for number in range(12):
        storage.write_text(f"gs://bucket/many/{number}.txt", "x" * number)
    begin = time.monotonic()
    with cloud.failing("GET", part="/o/many/", delay_seconds=2.0):
        sizes = [file.size_bytes for file in sized_input_files([path])]
    assert sorted(sizes) == [*range(12)]
    assert time.monotonic() - begin < 20.0


def test_a_range_in_the_middle_of_a_long_line_reads_little_beyond_its_end(tmp_path, monkeypatch):
    """Catches ranges that each read a line of 300 MB to its end, to find that nothing begins in them."""

    class Counted(io.FileIO):
        def readinto(self, buffer):
            size = super().readinto(buffer)
            read_bytes[-1] += size
            return size

    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a " * (1 << 20)}) + '\n{"text": "b"}\n')
    monkeypatch.setattr(LocalStorage, "open_read", lambda self, path: Counted(path))
    found, read_bytes = [], []
    for piece in pieces(sized_input_files([str(tmp_path)]), 1 << 19):
        read_bytes.append(0)
        found.append([one.text[0] for one in documents_of_piece(piece, Keys(), lambda count: None)])
    assert found == [["a"], [], [], [], ["b"]]
    assert read_bytes[1] <= 1 << 20


def test_what_is_wrong_in_a_range_is_named_by_its_byte(tmp_path):
    write_lines(tmp_path / "a.jsonl", TEXTS, end="\n{\n")
    byte = (tmp_path / "a.jsonl").stat().st_size - 2
    with pytest.raises(UserError, match=f"a.jsonl, the line that begins at byte {byte} is not"):
        read_in_pieces(tmp_path, 200)
    with pytest.raises(UserError, match=f"a.jsonl, line {len(TEXTS) + 1} is not"):
        list(iterate_documents([str(tmp_path)]))
