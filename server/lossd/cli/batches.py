"""Batches in files: whole where they are small, and otherwise in pieces of rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lossd.cli.rows import Array, Rows

# A batch and what is made of it take several times its bytes.
WHOLE_BYTES = 128 << 20
PIECE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class LargeBatch:
    """A batch of which one piece is in memory at a time; axis 0 of every array is that of examples.

    Attributes:
        arrays: Its arrays, weights and mask included.
        count: Their rows.
        rows: Those of a piece.
    """

    arrays: Mapping[str, Rows]
    count: int
    rows: int

    @property
    def piece_count(self) -> int:
        """The number of its pieces."""
        return -(-self.count // self.rows)

    def pieces(self) -> Iterator[dict[str, Array]]:
        """Yields the arrays of each piece."""
        read = [array.read(self.rows) for array in self.arrays.values()]
        for arrays in zip(*read, strict=True):
            yield dict(zip(self.arrays, arrays, strict=True))


def large_batch(arrays: Mapping[str, Rows | None]) -> LargeBatch | None:
    """Returns a batch to read in pieces; None if it is small, or has arrays of other lengths."""
    found = {name: rows for name, rows in arrays.items() if rows is not None}
    size = sum(rows.nbytes for rows in found.values())
    counts = {rows.shape[0] for rows in found.values()}
    if len(found) < len(arrays) or len(counts) != 1 or size <= WHOLE_BYTES:
        return None
    (count,) = counts
    return LargeBatch(found, count, max(1, PIECE_BYTES * count // size))
