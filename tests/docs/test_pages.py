"""The documents: links and paths lead somewhere, lines are short, and the pages that the README promises are there."""

import re
import subprocess
from pathlib import Path

import pytest
from places import REPOSITORY

GUIDES = (
    "data",
    "training",
    "resuming",
    "tpu",
    "evaluation",
    "zero-shot",
    "generation",
    "interchange",
    "keras",
    "studies",
)
# Their lines are longer: a page that a benchmark writes, and a diary.
DOCUMENTS = sorted(
    str(file.relative_to(REPOSITORY))
    for file in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md"))
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\s]+)`")
FOLDERS = ("ablations", "algpt2", "benchmarks", "data_tools", "docs", "eval", "tests", "tools")


def prose_of(text):
    """A document's lines outside code blocks, headings, comments and tables, without the addresses of links."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ *\|.*$|^#.*$|^<!--.*-->$", "", text, flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]()", text)


def anchors_of(text):
    """The names that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path, text):
    """The relative links of a document, as it stands at a path, whose file or heading is not there."""
    broken = []
    for link in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors_of(target.read_text() if name else text)):
            broken.append(link)
    return broken


def missing_paths(text, files):
    """What a document puts into backticks as a file of the repository, by its path or its name, and is none."""
    names = {Path(file).name for file in files}
    missing = []
    for quoted in QUOTED.findall(text):
        path = re.sub(r"(::|:\d).*$", "", quoted).rstrip("/")
        if re.search(r"[<>{}$]", path):
            continue
        if path.split("/")[0] in FOLDERS and "/" in path:
            if not any(REPOSITORY.glob(path)):
                missing.append(quoted)
        elif re.fullmatch(r"\w+\.(py|md)", path) and path not in names:
            missing.append(quoted)
    return missing


@pytest.fixture(scope="module")
def files():
    """The names of all files of the repository that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    return listed.stdout.splitlines()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_a_heading(document):
    path = REPOSITORY / document
    assert broken_links(path, path.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_backticks_is_a_file_or_folder_of_the_repository(document, files):
    assert missing_paths((REPOSITORY / document).read_text(), files) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_lines_of_prose_have_at_most_100_characters(document):
    lines = prose_of((REPOSITORY / document).read_text()).splitlines()
    assert [line for line in lines if len(line) > 100] == []


def linked_from(document):
    """The documents, by their paths in the repository, that a document links to."""
    path = REPOSITORY / document
    links = {link.partition("#")[0] for link in LINK.findall(path.read_text()) if not re.match(r"[a-z]+:|#", link)}
    return {str((path.parent / link).resolve().relative_to(REPOSITORY)) for link in links}


def test_the_readme_is_short_and_leads_to_every_document():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150
    from_readme = linked_from("README.md")
    assert from_readme >= {"docs/design/README.md", *(f"docs/guide/{name}.md" for name in GUIDES)}
    assert from_readme | linked_from("docs/design/README.md") | {"README.md"} >= set(DOCUMENTS)


def test_every_room_has_a_page_of_its_design():
    rooms = {file.parent.name for file in (REPOSITORY / "algpt2").glob("*/__init__.py")}
    assert rooms <= {file.stem for file in (REPOSITORY / "docs/design").glob("*.md")}


def test_every_document_that_the_code_names_is_there(files):
    for file in files:
        if Path(file).suffix == ".py" and (REPOSITORY / file).exists():
            named = re.findall(r"docs/[\w/]+\.(?:md|json)", (REPOSITORY / file).read_text())
            assert [name for name in named if not (REPOSITORY / name).exists()] == [], file


def test_broken_links_missing_paths_and_long_lines_are_found(files):
    text = "# One\n[a](b.md) [c](#one) [d](#two) [e](https://f.g)\n`algpt2/no.py` `algpt2/text/` `packing.py` `no.py`\n"
    assert broken_links(REPOSITORY / "README.md", text) == ["b.md", "#two"]
    assert missing_paths(text, files) == ["`algpt2/no.py`".strip("`"), "no.py"]
    long_line = "x" * 101
    assert long_line in prose_of(f"{long_line}\n")
    assert long_line not in prose_of(f"```\n{long_line}\n```\n| {long_line} |\n[a]({long_line})\n")
