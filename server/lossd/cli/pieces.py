"""Batches in files, one after the other and piece by piece, each piece with where it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossd.cli.arrays import load, load_rows
from lossd.cli.batches import LargeBatch, large_batch
from lossd.cli.failures import told
from lossd.cli.text_lines import TextLines, has_texts, text_lines


@dataclass(frozen=True, slots=True)
class PlacedPiece:
    """A piece of a batch, and the end of an error that tells where it is."""

    arrays: dict[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class WholeInput:
    """A batch that is read at once."""

    sources: Mapping[str, str]
    piece_count: int = 1
    rows: int = 0

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Yields it."""
        yield {name: load(name, source) for name, source in self.sources.items()}


FileBatch = WholeInput | TextLines | LargeBatch


def batches_of(files: Mapping[str, Sequence[str]]) -> Iterator[FileBatch]:
    """Yields the batches of files, of which every input has one for each."""
    for chosen in zip(*files.values(), strict=True):
        sources = dict(zip(files, chosen, strict=True))
        if has_texts(sources):
            yield text_lines(sources)
            continue
        large = large_batch({name: load_rows(name, source) for name, source in sources.items()})
        yield WholeInput(sources) if large is None else large


def pieces_of(batches: Sequence[FileBatch]) -> Iterator[PlacedPiece]:
    """Yields the pieces of all batches."""
    for number, batch in enumerate(batches, 1):
        named = [f"in batch {number} of {len(batches)}"] if len(batches) > 1 else []
        with told(_where(named)):
            for step, arrays in enumerate(batch.pieces()):
                counted_from = [f"counted from row {step * batch.rows}"] if step else []
                yield PlacedPiece(arrays, _where(named + counted_from))


def _where(facts: Sequence[str]) -> str:
    return f" ({', '.join(facts)})" if facts else ""
