"""Docstrings, help and descriptions are in plain English, in the words of the field."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossd.cli import command, subcommands
from lossd.evaluation import METRICS
from lossd.losses import LOSSES, Axes, Content
from lossd.serving.wire.comments import comments

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for folder in ("server", "client", "protos")
    for path in (ROOT / folder).rglob("*.py")
    if not path.stem.endswith(("_pb2", "_pb2_grpc"))
)
Docstrings = list[tuple[str, ast.AST, str]]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)

# What reads as translated, and what to write in its place.
NUMBERS = "number|weight|score|target|label|embedding|name|text|token|digest|module"
WHOLE = "example|token|row|layer|channel|core|thread|line|command|batch|sequence"
FOREIGN = {
    r"\b(?:gradients?|slopes?|derivatives?|differentiated)(?: of(?: [\w']+){1,3}){0,2} by\b"
    r"(?! its (?:square|scale)| \d| input\b)": "derivatives are taken with respect to something",
    r"\b(?:one|1) less\b": "write one minus",
    r"\b(?:for|does|wakes) who\b": "write whoever, or say who it is",
    rf"\bone(?: (?:{NUMBERS}))? an? (?:{WHOLE})\b": "write one number for each example",
    rf"\b(?:{NUMBERS}) a (?:{WHOLE})\b": "write one text on each line",
}  # fmt: skip

# Words with the ending of a verb that open no sentence about what is done.
PLURALS = "As|Is|Its|This|Bytes|Files|Slots|Tokens"


@pytest.fixture(scope="module")
def docstrings() -> Docstrings:
    """Returns each docstring with its place and what it documents."""
    return [found for path in FILES for found in docstrings_of(path)]


def docstrings_of(path: Path) -> Docstrings:
    """Returns the docstrings of a module and of all that is in it."""
    return [
        (f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node, text)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node))
    ]


def documented(*folders: str) -> Docstrings:
    """Returns the docstrings of all modules in folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [found for path in paths for found in docstrings_of(path)]


def test_there_are_files() -> None:
    assert len(FILES) > 200


def test_no_docstring_opens_with_what(docstrings: Docstrings) -> None:
    """A verb tells what a function does; a noun, what a class or a module is."""
    opening = [place for place, _, text in docstrings if text.startswith("What ")]
    assert not opening


def test_no_docstring_beside_the_library_opens_with_what() -> None:
    """Nor does one of a module, class, fixture or function that is not installed."""
    beside = documented("tests", "examples", "benchmarks", "conformance", "docs", "deploy")
    assert not [place for place, _, text in beside if text.startswith("What ")]


def test_no_comment_of_the_contract_opens_with_what() -> None:
    """They are the docstrings of messages in every language."""
    assert not [name for name, text in comments().items() if text.startswith("What ")]


def test_functions_do_not_open_with_whether(docstrings: Docstrings) -> None:
    """They return whether; a property may be described as "Whether ..."."""
    opening = [
        place
        for place, node, text in docstrings
        if isinstance(node, FUNCTIONS) and not is_property(node) and text.startswith("Whether ")
    ]
    assert not opening


def test_functions_open_with_a_verb(docstrings: Docstrings) -> None:
    """They say what they do, as "Returns the mean", "Counts a call"; a property says what it is.

    Losses, metrics and commands have their summary there.
    """
    verb = re.compile(rf"See\b|(?!(?:{PLURALS})\b)[A-Z][a-z]+s\b")
    opening = [
        f"{place}: {text.split()[0]!r}: begin with what it does, as Returns, Yields or Counts"
        for place, node, text in docstrings
        if isinstance(node, FUNCTIONS) and not (is_property(node) or is_declaration(node))
        if not verb.match(text)
    ]
    assert not opening


def test_no_module_tells_what_it_may_import(docstrings: Docstrings) -> None:
    """Its imports stand below, and import-linter checks what they may be (pyproject.toml)."""
    limits = re.compile(r"\bmay import\b|\bimports? [^.]*\bonly\b")
    telling = [
        f"{place}: {found[0]!r}: make it a contract of import-linter in pyproject.toml"
        for place, node, text in docstrings
        if isinstance(node, ast.Module) and (found := limits.search(" ".join(text.split())))
    ]
    assert not telling


def test_texts_use_the_words_of_the_field(docstrings: Docstrings) -> None:
    texts = [
        *comments().items(), *helps(), *descriptions(), *pages(),
        *((place, text) for place, _, text in docstrings),
        *((place, text) for place, _, text in documented("examples", "tests", "benchmarks")),
    ]  # fmt: skip
    foreign = [
        f"{place}: {found[0]!r}: {advice}"
        for place, text in texts
        for pattern, advice in FOREIGN.items()
        if (found := re.search(pattern, " ".join(text.split()), re.IGNORECASE))
    ]
    assert not foreign


def test_each_help_stands_alone() -> None:
    """Options are looked up one by one: the noun of a pronoun may be pages away."""
    leaning = re.compile(
        r"^(?:Of|After that|Before that)\b|^\w+ of its\b|\bof it of\b"
        r"|\b(?:that|these) (?:certificate|key|tokens?)\b|\bthat (?:it|they) (?:may|must)\b"
    )
    found = [
        f"{place}: {match[0]!r}: name what it stands for"
        for place, text in helps()
        if (match := leaning.search(text))
    ]
    assert not found


def helps() -> Iterator[tuple[str, str]]:
    """Yields what ``--help`` says of each command and each of its options."""
    for name, one in {"lossd": command, **subcommands()}.items():
        yield name, one.help or ""
        for option in one.params:
            yield f"{name} {option.name}", getattr(option, "help", None) or ""


def descriptions() -> Iterator[tuple[str, str]]:
    """Yields what losses, metrics and their inputs are said to be."""
    for loss in LOSSES.values():
        yield loss.name, f"{loss.summary}\n{loss.formula}"
        yield from ((f"{loss.name} {i.name}", i.description) for i in loss.inputs)
    for metric in METRICS.values():
        yield metric.name, f"{metric.summary}\n{metric.formula}"
        yield from ((f"{metric.name} {i.name}", i.description) for i in metric.inputs)
    yield from ((str(member), member.value) for member in (*Axes, *Content))


def pages() -> Iterator[tuple[str, str]]:
    """Yields the lines of the documents, but of what was."""
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "conformance/*.md", "examples/**/*.md"):
        for path in ROOT.glob(pattern):
            if path.name != "CHANGELOG.md" and "node_modules" not in path.parts:
                for number, line in enumerate(path.read_text().splitlines(), 1):
                    yield f"{path.relative_to(ROOT)}:{number}", line


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether a function is decorated as a property."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def is_declaration(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether a function is a loss, a metric or a command, with its summary in it."""
    return any(
        re.match(r"(?:loss|metric|click\.command)\b", ast.unparse(decorator))
        for decorator in node.decorator_list
    )
