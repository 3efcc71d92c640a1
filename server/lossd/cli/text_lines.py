"""Batches of texts in files, one on each line, of which some lines are in memory at a time."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from lossd.cli.arrays import load, load_rows, stdin
from lossd.cli.batches import PIECE_BYTES
from lossd.client import InvalidRequestError

_TEXTS = ("hypotheses", "references")
_LINES = 1 << 16  # of texts, in one piece


def has_texts(names: Collection[str]) -> bool:
    """Returns whether one of some inputs is of texts."""
    return any(name in _TEXTS for name in names)


@dataclass(frozen=True, slots=True)
class TextLines:
    """Texts, a line each, with weights and masks beside them."""

    sources: Mapping[str, str]
    piece_count: int
    rows: int = _LINES

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Yields some lines at a time.

        Raises:
            InvalidRequestError: if there are more of one input than of another.
        """
        read = [
            _lines(n, one) if n in _TEXTS else _rows_of(n, one) for n, one in self.sources.items()
        ]
        counts = dict.fromkeys(self.sources, 0)
        has_all = True
        for found in zip_longest(*read, fillvalue=()):
            piece = dict(zip(self.sources, found, strict=True))
            for name, part in piece.items():
                counts[name] += len(part)
            has_all = has_all and len(set(counts.values())) == 1
            if has_all:
                yield piece
        if not has_all:  # only now is it known how many there are
            raise _uneven(counts)


def text_lines(sources: Mapping[str, str]) -> TextLines:
    """Returns a batch of texts, from the file of each input."""
    sizes = [Path(one).stat().st_size for one in sources.values() if Path(one).exists()]
    return TextLines(sources, 1 + max(sizes, default=0) // PIECE_BYTES)


def _uneven(counts: Mapping[str, int]) -> InvalidRequestError:
    """Returns the error for inputs that do not go together."""
    (first, wanted), *others = sorted(counts.items(), key=lambda one: one[0] not in _TEXTS)
    name, count = next(one for one in others if one[1] != wanted)
    return InvalidRequestError(f"{name} must be given for each of {wanted} {first}, got {count}")


def _lines(name: str, source: str) -> Iterator[Sequence[str]]:
    try:
        # A mark at the start is no text, and a line may hold other separators.
        with _opened(source) as file:
            lines = (line.removesuffix("\n").removesuffix("\r") for line in file)
            yield list(islice(lines, _LINES))  # of an empty file none
            while found := list(islice(lines, _LINES)):
                yield found
            return
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    raise click.UsageError(f"{name} must be a readable text, got {source}: {reason}")


def _opened(source: str) -> IO[str]:
    if source == "-":
        return io.TextIOWrapper(stdin(), encoding="utf-8-sig", newline="\n")
    return Path(source).open(encoding="utf-8-sig", newline="\n")


def _rows_of(name: str, source: str) -> Iterator[Any]:
    found = load_rows(name, source)
    if found is not None:
        return found.read(_LINES)
    whole = np.atleast_1d(load(name, source))
    return (whole[start : start + _LINES] for start in range(0, len(whole) or 1, _LINES))
