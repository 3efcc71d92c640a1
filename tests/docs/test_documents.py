"""The documents name what is there: tables, links, anchors, files, tests and commands."""

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import tables
from lossd import client
from lossd.client import AsyncLossClient, LossClient, LossResult
from lossd.client.retry import repeatable
from lossd.evaluation import METRICS
from lossd.losses import LOSSES, Shape
from lossd.schema import REQUIRED

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.md", "docs/**/*.md", "deploy/**/*.md", ".github/*.md", "conformance/*.md",
        "examples/clients/*.md",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip
PAGES = (
    "docs/architecture.md", "docs/semantics.md", "docs/losses.md", "docs/evaluation.md",
    "docs/client.md", "docs/training.md", "docs/command_line.md", "docs/operating.md",
    "docs/operations.md", "docs/runbook.md", "docs/releasing.md", "docs/precision.md",
    "docs/wire.md", "docs/comparison.md", "docs/presets.md", "docs/performance.md",
    "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "deploy/README.md",
)  # fmt: skip
CLIENT = Path("docs/client.md")
FOLDERS = (
    "server/",
    "client/",
    "protos/",
    "tests/",
    "docs/",
    "deploy/",
    "benchmarks/",
    "examples/",
    "conformance/",
)

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def text_of(document: Path) -> str:
    return (ROOT / document).read_text()


def without_blocks(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def known_extras() -> dict[str, list[str]]:
    """Returns what each extra of the package brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, list[str]] = project["optional-dependencies"]
    return found


def installed(extras: str) -> set[str]:
    """Returns extras of lossd with those that they bring."""
    known = known_extras()
    found = {extra.strip() for extra in extras.split(",") if extra}
    for extra in list(found):
        for needed in known[extra]:
            if more := re.fullmatch(r"lossd\[(.*)\]", needed):
                found |= installed(more[1])
    return found


@documents
def test_what_is_installed_brings_the_command_that_comes_next(document: Path) -> None:
    for block in re.findall(r"^```\w*\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL):
        extras: set[str] | None = None
        for line in block.splitlines():
            for part in line.split("&&"):
                if found := re.search(
                    r"pip install\b.* '?(?:\.|lossd)(?:\[([\w,]+)\])?'?(\s|$)", part
                ):
                    extras = installed(found[1] or "")
                elif extras is not None and re.search(r"(^|[\s/])lossd ", part):
                    assert "server" in extras, f"{document}: {line}"


def test_the_front_page_says_what_every_extra_brings() -> None:
    table = text_of(Path("README.md")).split("| to install, from a clone |")[1].split("\n\n")[0]
    said = set(re.findall(r"\.\[(\w+)\]", table))

    assert said == set(known_extras()) - {"frameworks", "oracles"}  # which go with dev, for CI


def test_extras_are_installed_from_a_clone() -> None:
    """Nothing is published yet under the name; messages of programs may name an extra."""
    programs = [*ROOT.glob("client/**/*.py"), *ROOT.glob("examples/**/*.py")]
    texts = {path: text_of(path) for path in DOCUMENTS if path != Path("CHANGELOG.md")}
    texts |= {path.relative_to(ROOT): docstrings(path) for path in programs}

    assert [str(path) for path, text in texts.items() if re.search(r"\blossd\[\w+", text)] == []


def docstrings(path: Path) -> str:
    """Returns the docstrings of a module and of all that is in it."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text()))
    return "\n".join(ast.get_docstring(n) or "" for n in nodes if isinstance(n, documented))


def test_the_page_of_the_client_names_all_of_a_result() -> None:
    results = text_of(Path("docs/client.md")).split("\n## Results\n")[1].split("\n## ")[0]
    fields = {field.name for field in dataclasses.fields(LossResult)}

    assert {name for name in fields if not re.search(rf"\b{name}\b", results)} == set()


def rows_of(document: Path, head: str) -> list[list[str]]:
    """Returns the cells of the table whose head begins so."""
    table = text_of(document).split(f"\n{head}")[1].split("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def test_the_page_of_the_client_names_every_method() -> None:
    named = {n for row in rows_of(CLIENT, "| method |") for n in re.findall(r"`(\w+)`", row[0])}
    ours, awaited = (
        {name for name in dir(one) if not name.startswith("_")}
        for one in (LossClient, AsyncLossClient)
    )

    assert named == ours
    assert ours - awaited == {"submit"}


def test_the_page_of_the_client_names_every_error_and_whether_it_is_repeated() -> None:
    known = {name: getattr(client, name) for name in client.__all__}
    errors = {
        n: one
        for n, one in known.items()
        if isinstance(one, type) and issubclass(one, client.LossdError)
    }
    rows = {re.findall(r"`(\w+)`", row[0])[0]: row for row in rows_of(CLIENT, "| error |")}

    assert set(rows) == set(errors)
    for name, (said, _, answer) in rows.items():
        bases = {base.__name__ for base in errors[name].__mro__[1:]}
        assert set(re.findall(r"`(\w+)`", said)[1:]) <= bases
        at_once, told = (repeatable(errors[name]("x", retry_delay=d)) for d in (None, 1.0))
        if name != "LossdError":
            assert answer.startswith("yes" if at_once else "where" if told else "no")


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_counts_are_those_of_what_is_built_in(document: str) -> None:
    text = (ROOT / document).read_text()

    for count in re.findall(r"\b(\d+) losses\b", text):
        assert int(count) == len(LOSSES)
    for count in re.findall(r"\b(\d+) (?:evaluation )?metrics\b", text):
        assert int(count) == len(METRICS)


def test_peers_that_miss_by_either_ratio_are_named() -> None:
    """Where a round's own ratio is within three, that of the medians beside it may not be."""
    text = text_of(Path("SECURITY.md"))
    head = next(line for line in text.splitlines() if "own ratios" in line)
    assert head.startswith("| the peer |")
    rows = [line.split(" | ") for line in text.split(head)[1].split("\n\n")[0].splitlines()[2:]]
    assert len(rows) >= 8
    for _, usual, beside, own, *_ in rows:
        quiet, attacked = (float(cell.split(", ")[1]) for cell in (usual, beside))
        if float(own) <= 3 < attacked / quiet:
            assert f"({attacked / quiet:.1f})" in text


def test_lines_of_other_servers_are_counted_and_all_needed() -> None:
    text = text_of(Path("docs/comparison.md"))
    blocks = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    rows = [line.split(" | ") for line in text.splitlines() if re.match(r"\| [LTl]\w+.*\d", line)]
    said = [int(re.match(r"\d+", cell)[0]) for row in rows for cell in row[1:]]  # type: ignore[index]

    assert [n for n in said if n] == [
        sum(bool(line.strip()) for line in block.splitlines()) for block in blocks
    ]
    for block in blocks:
        tree = ast.parse(block)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        named = {alias.asname or alias.name.split(".")[0] for n in imports for alias in n.names}
        assert named <= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}, block


def test_numbers_say_which_program_repeats_them() -> None:
    text = text_of(Path("docs/performance.md"))
    measured = text.split("\n## What was measured\n")[1].split("\n## ")[0]
    parts = re.split(r"(?:^\|.*\n)+", measured, flags=re.MULTILINE)
    for part in parts[:-1]:  # what stands above each table, and below the one before
        head = part.strip().split("\n\n")[-1]
        programs = re.findall(r"`python (benchmarks/\w+\.py)[ `]", head)
        assert programs or "measured by hand; no program here repeats" in head, head
        assert all((ROOT / program).is_file() for program in programs)
    assert len(parts) > 10


def anchors(path: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(document))):
        if not re.match(r"[a-z]+:", target):
            yield target


def test_tables_are_those_of_the_code() -> None:
    for path, current, right in tables.documents():
        assert current == right, f"{path} is out of date: run nox -s tables"


def test_parameters_without_a_default_are_said_to_be_required() -> None:
    """A list that must be given looked like one that is empty by default."""
    rows = {row[0].strip("`"): row[-1] for row in rows_of(Path("docs/losses.md"), "| loss |")}

    for loss in LOSSES.values():
        required = {p.name for p in loss.all_parameters if p.default is REQUIRED}
        assert set(re.findall(r"(\w+) \[required\]", rows[loss.message])) == required


def test_each_dialect_of_a_preset_has_a_source_of_its_own() -> None:
    rows = rows_of(Path("docs/presets.md"), "| call | message | source |")
    sources = [row[-1] for row in rows if "dialect=" in row[0]]
    assert len(set(sources)) == len(sources) > 0


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        file, _, anchor = target.partition("#")
        found = (ROOT / document).parent / file if file else ROOT / document
        assert found.exists(), f"{document} links to {target}, which is not there"
        assert not anchor or anchor in anchors(found), f"{document}: {target} has no such heading"


@documents
def test_files_that_are_named_exist(document: Path) -> None:
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", text_of(document)):
        if name.startswith(FOLDERS) and "NAME" not in name:
            assert (ROOT / name).exists(), f"{document} names {name}, which is not there"


@documents
def test_tests_that_are_named_exist(document: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(document)):
        functions = ast.walk(ast.parse((ROOT / file).read_text()))
        named = {f.name for f in functions if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in named, f"{document} names {name} of {file}, which is not there"


@documents
def test_programs_are_python(document: Path) -> None:
    for program in re.findall(r"```py(?:thon)?\n(.*?)```", text_of(document), re.DOTALL):
        ast.parse(program)


def test_the_architecture_names_every_module_and_shape_and_each_word_once() -> None:
    text = text_of(Path("docs/architecture.md"))
    packages = text.split("| package |")[1].split("\n\n")[0]
    modules = {path.stem for path in (ROOT / "server/lossd").iterdir()} - {
        "__main__",
        "__pycache__",
    }
    words = re.findall(r"^\| ([^|]+) \|", text.split("\n## Glossary\n")[1], re.MULTILINE)

    shapes = re.split(r"\W+", re.search(r"A \*shape\* is .*: (.*)\.", text)[1])  # type: ignore[index]

    assert {name for name in modules if f"`lossd.{name}`" not in packages} == set()
    assert set(shapes) == {shape.name.lower() for shape in Shape}
    assert len(words) == len(set(words))


@pytest.mark.parametrize("page", PAGES)
def test_the_front_page_links_to_every_page(page: str) -> None:
    assert page in {link.removesuffix("/") for link in links(Path("README.md"))} | {
        f"{link.rstrip('/')}/README.md" for link in links(Path("README.md"))
    }


def test_the_front_page_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= 200


def test_every_rule_of_the_numeric_contract_names_its_tests() -> None:
    rules = re.split(r"^### (?=N\d+ )", text_of(Path("docs/semantics.md")), flags=re.MULTILINE)[1:]

    assert [rule.split()[0] for rule in rules] == [f"N{number}" for number in range(1, 19)]
    for rule in rules:
        assert re.search(r"^> `tests/", rule, re.MULTILINE), rule.splitlines()[0]
