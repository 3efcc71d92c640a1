"""Writes manual pages of the command line, one a command.

    python docs/man.py DIRECTORY     writes lossd.1, lossd-serve.1 ...

They say what ``--help`` says, and are not part of the repository.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from lossd.cli import command, subcommands

_STATUS = """\
.TP
.B 0
The command did what it was asked.
.TP
.B 1
It was used rightly and failed.
.TP
.B 2
It was used wrongly.
"""


def pages() -> dict[str, str]:
    """Returns the text of each page, by its file's name."""
    found = {"lossd.1": _page("lossd", command)}
    for name, one in subcommands().items():
        found[f"lossd-{name}.1"] = _page(f"lossd {name}", one)
    return found


def _page(name: str, one: click.Command) -> str:
    context = click.Context(one, info_name=name)
    usage = " ".join(one.collect_usage_pieces(context))
    title = name.replace(" ", "-")
    parts = [
        f'.TH "{title.upper()}" "1" "" "lossd {version("lossd")}" "User Commands"',
        f".SH NAME\n{_escaped(title)} \\- {_escaped(one.get_short_help_str(200).rstrip('.'))}",
        f".SH SYNOPSIS\n.B {_escaped(name)}\n{_escaped(usage)}",
        f".SH DESCRIPTION\n{_paragraphs(one.help or '')}",
        _listed("OPTIONS", _records(one, context)),
    ]
    if isinstance(one, click.Group):
        described = [(key, sub.get_short_help_str(200)) for key, sub in subcommands().items()]
        parts.append(_listed("COMMANDS", described))
        others = [f"lossd-{key}" for key in subcommands()]
    else:
        others = ["lossd"]
    if one.epilog:
        parts.append(f".SH NOTES\n{_paragraphs(one.epilog)}")
    also = ",\n".join(f".BR {_escaped(other)} (1)" for other in sorted(others))
    parts += [f".SH EXIT STATUS\n{_STATUS.rstrip()}", f".SH SEE ALSO\n{also}"]
    return "\n".join(filter(None, parts)) + "\n"


def _records(one: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in one.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield record


def _listed(title: str, records: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    lines = [f".TP\n.B {_escaped(term)}\n{_escaped(text)}" for term, text in records]
    return "\n".join([f".SH {title}", *lines]) if lines else ""


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(map(_paragraph, re.split(r"\n\s*\n", text.strip())))


def _paragraph(text: str) -> str:
    """Returns a paragraph, with its lines where click's mark says that they stay as they are."""
    mark, *lines = text.splitlines()
    if mark.strip() == "\b":
        return "\n".join([".nf", *(_escaped(line.strip()) for line in lines), ".fi"])
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    """Returns text in which nothing is a request of roff."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{plain}" if plain.startswith(".") else plain


def main() -> None:
    """Writes the pages into the directory of the first argument."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/man.py DIRECTORY")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
