"""Formats pages and lists of losses and metrics for a terminal."""

import itertools
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import click

from lossd.cli.equivalents import Equivalent
from lossd.cli.page import InputEntry, Page, ParameterEntry
from lossd.cli.shown import can_show, is_bounded, print_json

_WIDEST = 100  # longer lines are hard to read
_KINDS = {"double": "number", "int64": "whole number", "bool": "true or false", "string": "text"}
# The contract's sentences on bounds and defaults, which are shown separately here.
_SAID_ABOVE = re.compile(
    r"\s*(In [\[(][^\])]*[\])]\.|Default [^ ]+\.|Unset by default\.|Required\.)"
)
_GRADIENTS = {"by default": "has a gradient", "on request": "has a gradient on request"}


def print_pages(
    pages: Sequence[Page], name: str | None, search: str | None, *, as_json: bool, plot: str = ""
) -> None:
    """Prints one page with its plot, or a list of those that a search finds, or of all.

    Raises:
        click.UsageError: if both a name and a search are given.
        click.ClickException: if nothing is found.
    """
    if name is not None:
        if search is not None:
            raise click.UsageError(f"--search must be left out with a name, got both ({name})")
        (page,) = (page for page in pages if page.name == name)
        if as_json:
            print_json(asdict(page))
        else:
            click.echo(page_text(page, plot))
        return
    found = [page for page in pages if page.has((search or "").split())]
    if as_json:
        print_json([asdict(page) for page in found])
    elif found:
        click.echo(list_text(found))
    else:
        raise click.ClickException(f"nothing is about all of the words {search}")


def terminal_width() -> int:
    """Returns the columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def list_text(pages: Sequence[Page]) -> str:
    """Returns a line for each name and its summary, under the names of the tasks."""
    width = max(map(len, (page.name for page in pages)), default=0)
    lines = []
    for task, found in itertools.groupby(pages, key=lambda page: page.task):
        lines += ["", click.style(task, bold=True)]
        lines += [_cut(f"  {page.name:{width}}  {page.summary}") for page in found]
    return "\n".join(lines[1:])


def _cut(line: str) -> str:
    width = terminal_width()
    if len(line) <= width or not is_bounded():
        return line
    more = "…" if can_show("…") else "..."
    return f"{line[: width - len(more)].rpartition(' ')[0]} {more}"


def page_text(page: Page, plot: str = "") -> str:
    """Returns all of a page, within the width of the terminal."""
    name, said = click.style(page.name, bold=True), f", {page.message} in Python"
    if len(page.name + said) > terminal_width():
        said = said.replace(", ", ",\n", 1)
    parts = [f"{name}{said}", _wrapped(page.summary)]
    parts += [_section(head, body) for head, body in _sections(page, plot) if body]
    return "\n\n".join(parts)


def _sections(page: Page, plot: str) -> Iterator[tuple[str, str]]:
    yield "Task", _wrapped(page.task)
    yield "Formula", "\n".join(map(_formula_line, page.formula.splitlines()))
    yield "Plot", textwrap.indent(plot, "  ")
    yield "Notes", "\n\n".join(map(_wrapped, page.notes.split("\n\n") if page.notes else ()))
    yield "Inputs", "\n".join(map(_input, page.inputs))
    yield "Parameters", "\n".join(map(_parameter, page.parameters))
    yield "Where there is no derivative", _kinks(page)
    yield "Train with", page.surrogate and f"  {page.surrogate}, since no metric has a gradient"
    yield "Trained with in place of", _wrapped(", ".join(page.stands_for))
    yield "Elsewhere", "\n".join(map(_equivalent, page.equivalents))
    yield "Example", _wrapped(page.example)
    yield "Reference", _wrapped(page.reference)
    yield "On the command line", textwrap.indent(page.command, "  ")
    yield "In Python", textwrap.indent(page.python, "  ")


def _section(head: str, body: str) -> str:
    return f"{click.style(head, bold=True)}\n{body}"


def _input(one: InputEntry) -> str:
    facts = [" or ".join(one.shapes), _dtypes(one.dtypes), _GRADIENTS.get(one.gradient, "")]
    facts += ["optional"] if one.is_optional else []
    return _entry(one.name, facts, one.description)


def _parameter(one: ParameterEntry) -> str:
    bounds = f" in {one.bounds}" if one.bounds else ""
    default = one.default if one.default == "required" else f"default {one.default}"
    facts = [f"{_kind(one)}{bounds}", default, _GRADIENTS.get(one.gradient, "")]
    lines = [_entry(one.name, facts, _SAID_ABOVE.sub("", one.description))]
    lines += [_wrapped(f"{name}: {text}", 6, 8) for name, text in one.choices.items()]
    return "\n".join(lines)


def _kind(one: ParameterEntry) -> str:
    """Returns the type in plain words."""
    several, _, name = one.type.rpartition(" ")
    if one.choices:
        name = "of these" if several else "one of these"
    name = _KINDS.get(name, name)
    return f"list of {name.removesuffix('s')}s" if several and not one.choices else name


def _entry(name: str, facts: Iterable[str], description: str) -> str:
    said = "; ".join(fact for fact in facts if fact)
    return f"{_wrapped(f'{name}: {said}', 2, 6)}\n{_wrapped(description, 4)}"


def _dtypes(names: Sequence[str]) -> str:
    floats = [name for name in names if "float" in name]
    if len(floats) == len(names):
        return ", ".join(names)
    return "any integer, bool or floating-point type" if floats else "any integer type or bool"


def _equivalent(one: Equivalent) -> str:
    return _wrapped(f"{one.name}: {one.remark}" if one.remark else one.name, 2, 6)


def _kinks(page: Page) -> str:
    if not page.kinks:
        return ""
    named = " and ".join(page.kinks)
    return _wrapped(
        f"With respect to {named}, at the corners of the formula; the gradient there is a "
        "subgradient, the same on every backend."
    )


def _formula_line(line: str) -> str:
    """Returns a line of a formula, keeping its spaces."""
    indent = 2 + len(line) - len(line.lstrip())
    return _wrapped(line.lstrip(), indent, indent + 4)


def _wrapped(text: str, first: int = 2, others: int | None = None) -> str:
    return "\n\n".join(
        textwrap.fill(
            paragraph,
            min(terminal_width(), _WIDEST),
            initial_indent=" " * first,
            subsequent_indent=" " * (first if others is None else others),
            break_on_hyphens=False,
        )
        for paragraph in text.split("\n\n")
    )
