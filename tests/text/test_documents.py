"""Documents: what each format yields, and that wrong input is an error which says where."""

import gzip
import json
import lzma

import pytest

from algpt2.errors import UserError
from algpt2.text import long_texts
from algpt2.text.documents import Keys, iterate_documents, read_text_file, require_documents
from algpt2.text.input_files import input_bytes

TEXTS = ["first", "", "third\r\nline \u2028 \U0001f600 \x00"]


def json_lines(texts, key="text"):
    return "".join(json.dumps({key: text}, ensure_ascii=False) + "\n" for text in texts).encode()


def compress(data, suffix):
    if suffix == ".zst":
        return pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix](data)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def texts_of(paths, **options):
    found = list(iterate_documents(paths, Keys(**options)))
    assert all(document.utf8 == document.text.encode() for document in found)
    return [document.text for document in found]


def read_error(path, **options):
    with pytest.raises(UserError) as raised:
        list(iterate_documents([path], Keys(**options)))
    return str(raised.value)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_json_lines_give_every_text_unchanged(tmp_path, suffix):
    path = write(tmp_path / f"a.jsonl{suffix}", compress(json_lines(TEXTS), suffix))
    assert texts_of([path]) == TEXTS


@pytest.mark.parametrize("suffix", [".txt", ".raw", ".txt.gz", ".txt.xz", ".raw.zst"])
def test_a_text_file_is_one_document_with_its_line_ends(tmp_path, suffix):
    data = compress(TEXTS[2].encode(), "." + suffix.split(".")[2] if suffix.count(".") == 2 else "")
    assert texts_of([write(tmp_path / f"a{suffix}", data)]) == [TEXTS[2]]


def test_parquet_gives_one_document_a_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [str(number) for number in range(3000)]
    parquet.write_table(pyarrow.table({"body": texts, "n": range(3000)}), tmp_path / "a.parquet")
    assert texts_of([str(tmp_path / "a.parquet")], text="body") == texts
    assert "'text'" in read_error(str(tmp_path / "a.parquet"))
    assert "row 1 " in read_error(str(tmp_path / "a.parquet"), text="n")
    write(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-100])
    assert "b.parquet" in read_error(str(tmp_path / "b.parquet"), text="body")


def test_a_row_without_text_late_in_a_parquet_file_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["x"] * 2500 + [None]}), tmp_path / "a.parquet")
    assert "row 2501 " in read_error(str(tmp_path / "a.parquet"))


def test_paths_keep_their_order_and_a_folder_is_sorted(tmp_path):
    for name in ("folder/b.txt", "folder/a.txt", "folder/c/d.txt", "z.txt"):
        write(tmp_path / name, name.encode())
    paths = [str(tmp_path / "z.txt"), str(tmp_path / "folder")]
    assert texts_of(paths) == ["z.txt", "folder/a.txt", "folder/b.txt", "folder/c/d.txt"]


def test_members_one_after_the_other_are_all_read(tmp_path):
    for suffix in (".gz", ".xz", ".zst"):
        data = b"".join(compress(json_lines([text]), suffix) for text in TEXTS)
        assert texts_of([write(tmp_path / f"a.jsonl{suffix}", data)]) == TEXTS


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-5], lambda data: data[:20], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_compressed_file_is_an_error_that_names_it(tmp_path, suffix, damage):
    lines = json_lines([str(number) for number in range(1000)])
    path = write(tmp_path / f"a.jsonl{suffix}", damage(compress(lines, suffix)))
    assert path in read_error(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "nested in more than 100 levels"),
        (b"[1]", "it is a list"),
        (b'{"other": "x"}', "['other']"),
        (b'{"text": 3}', "is a int"),
        (b'{"text": "a\\ud800"}', "U+D800"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_the_line(tmp_path, line, expected):
    message = read_error(write(tmp_path / "a.jsonl", json_lines(["x"]) + line + b"\n" + json_lines(["y"])))
    assert expected in message
    assert "a.jsonl, line 2" in message


def test_one_empty_line_at_the_end_is_no_document(tmp_path):
    assert texts_of([write(tmp_path / "a.jsonl", json_lines(["x"]) + b"\n")]) == ["x"]


def test_the_last_line_may_lack_its_newline(tmp_path):
    assert texts_of([write(tmp_path / "a.jsonl", json_lines(["x", "y"])[:-1])]) == ["x", "y"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".jsonl.gz"])
def test_bytes_that_are_not_utf8_are_an_error_with_their_offset(tmp_path, suffix):
    data = json_lines(["x"]) + b'{"text": "\xff"}\n'
    path = write(tmp_path / f"a{suffix}", compress(data, ".gz" if suffix.endswith(".gz") else ""))
    message = read_error(path)
    assert f"byte {data.index(0xFF)} " in message
    assert path in message


def test_an_unknown_suffix_is_an_error_before_anything_is_read(tmp_path):
    write(tmp_path / "a.txt", b"x")
    write(tmp_path / "b.csv", b"x")
    with pytest.raises(UserError, match=r"\.jsonl.*\.parquet.*b\.csv"):
        iterate_documents([str(tmp_path)])


def test_a_path_where_nothing_is_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing is at"):
        iterate_documents([str(tmp_path / "none.txt")])


@pytest.mark.parametrize(("name", "package"), [("a.jsonl.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_a_missing_package_is_an_error_that_says_what_to_install(tmp_path, monkeypatch, name, package):
    write(tmp_path / name, b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None)
    with pytest.raises(UserError, match=rf"{package}.*pip install 'algpt2\[formats\]'"):
        iterate_documents([str(tmp_path)])


def test_progress_adds_up_to_the_stored_bytes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"text": TEXTS}), tmp_path / "c.parquet")
    write(tmp_path / "a.jsonl.gz", compress(json_lines(TEXTS * 9999), ".gz"))
    write(tmp_path / "b.txt", b"x" * 100_000)
    counted = []
    assert len(list(iterate_documents([str(tmp_path)], on_bytes=counted.append))) == 9999 * 3 + 1 + 3
    assert sum(counted) == input_bytes([str(tmp_path)])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_text_whose_encoding_would_take_all_memory_is_refused_with_its_place(tmp_path, monkeypatch, name):
    monkeypatch.setattr(long_texts, "MOST_UNBROKEN_CHARACTERS", 500)
    monkeypatch.setattr(long_texts, "PART_CHARACTERS", 100)
    text = "word " * 200 + "\0" * 800
    path = write(tmp_path / name, text.encode() if name == "a.txt" else json_lines(["x", text]))
    place = f"the text at byte 0 of {path}" if name == "a.txt" else f"{path}, line 2"
    assert f"within 500 characters, and {place} has none from character 1" in read_error(path)


def test_input_without_documents_is_an_error():
    assert list(require_documents(["", "x"])) == ["", "x"]
    with pytest.raises(UserError, match="at least one document"):
        list(require_documents([]))


def test_a_text_file_is_read_whole_whatever_its_name(tmp_path):
    assert read_text_file(write(tmp_path / "wiki.test.raw2", b"a\r\nb")) == "a\r\nb"
    for data, expected in ((b"", "is empty"), (b"ab\xff", "byte 2 ")):
        with pytest.raises(UserError, match=expected):
            read_text_file(write(tmp_path / "x", data))
    with pytest.raises(UserError, match="must exist"):
        read_text_file(str(tmp_path / "none"))
    with pytest.raises(UserError, match="must be a file, and .* is a folder"):
        read_text_file(str(tmp_path))


def domains_of(path, key):
    return [document.domain for document in iterate_documents([path], Keys(domain=key))]


def test_a_domain_is_the_file_unless_a_key_that_may_lead_into_objects_names_another(tmp_path):
    lines = [{"text": "a", "meta": {"set": "code"}}, {"text": "b", "meta": {"set": "law"}}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert domains_of(path, "meta.set") == ["code", "law"]
    assert domains_of(path, None) == [path, path]
    assert domains_of(write(tmp_path / "b.txt", b"c"), None) == [str(tmp_path / "b.txt")]


def test_a_row_of_parquet_has_its_domain_in_a_column_or_in_a_part_of_one(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"text": ["a", "b"], "meta": [{"set": "code"}, {"set": "law"}], "kind": ["x", "y"], "n": [1, 2]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    assert domains_of(str(tmp_path / "a.parquet"), "meta.set") == ["code", "law"]
    assert domains_of(str(tmp_path / "a.parquet"), "kind") == ["x", "y"]
    assert "'other' must be a string" in read_error(str(tmp_path / "a.parquet"), domain="other")


@pytest.mark.parametrize("fields", [{}, {"meta": "code"}, {"meta": {"set": 7}}, {"meta": {"set": None}}])
def test_a_document_without_a_domain_is_an_error_that_names_its_line(tmp_path, fields):
    path = write(tmp_path / "a.jsonl", (json.dumps({"text": "a", **fields}) + "\n").encode())
    assert f"'meta.set' must be a string, and in {path}, line 1 " in read_error(path, domain="meta.set")


def test_plain_text_has_no_key_of_a_domain(tmp_path):
    assert "--domain_key set needs JSON objects" in read_error(write(tmp_path / "a.txt", b"c"), domain="set")
