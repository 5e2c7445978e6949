"""Documents are tests: every Python example runs, and every equation is where the document says it is."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.operators import PAGE, page

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/*.md")])
NUMERICS = (ROOT / "docs/numerics.md").read_text()
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CITATION = re.compile(r"(?<!paper )(?<!paper, )\b(?:eq\.|equations?) (\d+(?:(?:, | and | to )\d+)*)")


def examples(document: Path) -> Iterator[tuple[int, str, str]]:
    """The Python blocks of a document: line of the first statement, what follows the word python, the code."""
    text = document.read_text()
    for block in BLOCK.finditer(text):
        yield text.count("\n", 0, block.start()) + 1, block[1].strip(), block[2]


def defined() -> list[str]:
    """The equations' numbers, in order: indented lines of the document that end in one."""
    return re.findall(r"^    .*\S {2,}\((\d+'?)\)$", FENCED.sub("", NUMERICS), re.MULTILINE)


def cited(text: str) -> set[int]:
    """The numbers in `eq. 7`, `eq. 11 and 13`, `eq. 2 to 4`; equations of the paper do not count."""
    numbers: set[int] = set()
    for match in CITATION.finditer(re.sub(r"\s+(//\s+)?", " ", text)):
        for part in re.split(r", | and ", match[1]):
            first, *last = (int(n) for n in part.split(" to "))
            numbers |= set(range(first, (last or [first])[0] + 1))
    return numbers


def places() -> Iterator[tuple[int, str, str]]:
    """(equation, Python name or "", C name or "") of the document's table."""
    for row in re.findall(r"^\| ([\d, ]+) \| ([^|]*) \| ([^|]*)\|$", NUMERICS, re.MULTILINE):
        python, c = (cell.strip(" `") for cell in row[1:])
        for number in row[0].split(", "):
            yield int(number), python, c


def test_the_page_of_operators_is_that_of_the_tables() -> None:
    assert PAGE.read_text() == page(), "run python -m benchmarks.operators"


def docstring(name: str) -> str:
    """The docstring of `spec.qparams.quantize`, or of a module."""
    try:
        found = importlib.import_module(f"unfloat.{name}")
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(f"unfloat.{module}"), attribute)
    return inspect.getdoc(found) or ""


def comment(function: str) -> str:
    """The comment above a function of qmath.h."""
    header = (ROOT / "csrc/include/qmath.h").read_text()
    found = re.search(rf"((?:^//[^\n]*\n)+)static inline [\w ]+\b{function}\(", header, re.MULTILINE)
    return found[1] if found else ""


def sources() -> list[Path]:
    suffixes = {".py", ".pyi", ".c", ".h", ".cc", ".inc"}
    return [path for room in ("src", "csrc") for path in sorted((ROOT / room).rglob("*")) if path.suffix in suffixes]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": f"examples of {document.name}"}
    for line, options, code in examples(document):
        assert options in ("", "no-run"), f"{document.name}:{line}: unknown option {options!r}"
        compiled = compile("\n" * line + code, str(document), "exec")  # its own line numbers in a traceback
        if options != "no-run":
            exec(compiled, namespace)


def test_numerics_has_examples() -> None:
    running = [code for _, options, code in examples(ROOT / "docs/numerics.md") if not options]
    assert len(running) > 10
    assert sum(code.count("assert ") for code in running) > 40


def test_equations_are_numbered_in_order() -> None:
    numbers = [n for n in defined() if n.isdigit()]
    assert [int(n) for n in numbers] == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20


def test_the_text_refers_to_equations_that_exist() -> None:
    prose = FENCED.sub("", NUMERICS)
    used = set(re.findall(r"(?<![\w`^])\((\d+'?)\)", prose))
    assert used - set(defined()) == set()


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_citations_are_of_equations_that_exist(path: Path) -> None:
    text = path.read_text()
    last = max(int(n) for n in defined() if n.isdigit())
    assert {n for n in cited(text) if not 1 <= n <= last} == set()
    sections = re.findall(r"docs/numerics\.md,\s+sections? (\d+)(?: (?:and|to) (\d+))?", text)
    for heading in {number for pair in sections for number in pair if number}:
        assert re.search(rf"^## {heading}\. ", NUMERICS, re.MULTILINE), f"there is no section {heading}"


def test_citations_are_understood() -> None:
    assert cited("(eq. 7), equations 2 to 4 and 9; the paper's (paper eq. 12)") == {2, 3, 4, 7, 9}
    assert cited("// rounded twice (eq.\n// 11 and 12)") == {11, 12}


@pytest.mark.parametrize(("number", "python", "c"), list(places()))
def test_equations_live_where_the_table_says(number: int, python: str, c: str) -> None:
    assert str(number) in defined()
    assert python or c
    assert not python or number in cited(docstring(python))
    assert not c or number in cited(comment(c))


def test_the_table_is_found() -> None:
    assert len(list(places())) > 20


def test_what_was_tried_stands_on_the_page_of_speed() -> None:
    """The benchmark ends its page with this text: a row written to the page alone would be lost."""
    levers = (ROOT / "benchmarks/levers.md").read_text()
    assert (ROOT / "docs/results/speed.md").read_text().endswith(levers)
