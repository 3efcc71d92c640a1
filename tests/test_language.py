"""Docstrings say in plain English what functions do, in the words of the field."""

import ast
import re
from pathlib import Path

import pytest

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
FOREIGN = {
    r"\b(?:gradients?|slopes?|derivatives?|differentiated) by (?!its (?:square|scale))(?!\d)":
        "derivatives are taken with respect to something",
    r"\bone less\b": "write one minus",
    r"\b(?:one number|one weight) an? [a-z]": "write one number for each example",
}  # fmt: skip


@pytest.fixture(scope="module")
def docstrings() -> Docstrings:
    """Returns each docstring with its place and what it documents."""
    return [
        (f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node, text)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node))
    ]


def test_there_are_files() -> None:
    assert len(FILES) > 200


def test_no_docstring_opens_with_what(docstrings: Docstrings) -> None:
    """A verb tells what a function does; a noun, what a class or a module is."""
    opening = [place for place, _, text in docstrings if text.startswith("What ")]
    assert not opening


def test_no_docstring_beside_the_library_opens_with_what() -> None:
    """Nor does one of a module, class, fixture or function that is not installed."""
    opening = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
        for folder in ("tests", "examples", "benchmarks", "conformance", "docs", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, DOCUMENTED) and (ast.get_docstring(node) or "").startswith("What ")
    ]
    assert not opening


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


def test_docstrings_use_the_words_of_the_field(docstrings: Docstrings) -> None:
    texts = [*comments().items(), *((place, text) for place, _, text in docstrings)]
    foreign = [
        f"{place}: {found[0]!r}: {advice}"
        for place, text in texts
        for pattern, advice in FOREIGN.items()
        if (found := re.search(pattern, " ".join(text.split()), re.IGNORECASE))
    ]
    assert not foreign


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether a function is decorated as a property."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
