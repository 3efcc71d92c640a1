"""The state of a metric: exact sums and kept rows of the data that it was given.

States add up: in any order, in any grouping, to the bit.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint, never_stop
from lossd.evaluation._tally import NO_TALLY, SUM_BYTES, StateError, Tally, check_sum

Array = npt.NDArray[Any]
Table = Mapping[str, Array]


class ClassificationTask(enum.Enum):
    """The task: what is decided about an example."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of one metric.

    ``task`` and ``width`` (the number of classes, labels or outputs) follow from the inputs; None
    where they do not.  ``tables`` hold rows that cannot be summed: arrays of one length by the name
    of the column.  A column that is missing counts as all 1.
    """

    task: ClassificationTask | None = None
    width: int | None = None
    example_count: int = 0
    ignored_count: int = 0
    silent_count: int = 0
    nonfinite_count: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it was given no example with weight."""
        return self.example_count == self.silent_count

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""
        kept = sum(column.nbytes for table in self.tables for column in table.values())
        return kept + sum(
            t.integers.nbytes + SUM_BYTES * len(t.fractions) for t in self.tallies.values()
        )

    @property
    def aligned_nbytes(self) -> int:
        """About how much memory its sums take as integers of one unit."""
        if not any(tally.fractions for tally in self.tallies.values()):
            return 0
        wholes = (np.count_nonzero(tally.integers) for tally in self.tallies.values())
        return SUM_BYTES * int(sum(wholes))

    def tally(self, name: str) -> Tally:
        """Returns the tally of that name; a single 0 for an empty state."""
        return self.tallies.get(name, NO_TALLY)

    def total(self, name: str) -> Fraction:
        """Returns the first sum of a tally."""
        return self.tally(name).exact()

    def table(self) -> Table:
        """Returns all rows in one table; an empty one where none were kept."""
        return _concatenated(self.tables) if self.tables else {}


def _concatenated(tables: Sequence[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: np.concatenate([table.get(name, np.ones(rows(table))) for table in tables])
        for name in names
    }


def rows(table: Table) -> int:
    """Returns how many rows a table has."""
    return len(next(iter(table.values())))


def _compacted(tables: Iterable[Table]) -> tuple[Table, ...]:
    """Merges tables until each is more than twice as long as the next, so that adding is cheap."""
    kept: list[Table] = []
    for table in tables:
        kept.append(table)
        while len(kept) > 1 and 2 * rows(kept[-1]) >= rows(kept[-2]):
            last = kept.pop()
            kept[-1] = _concatenated((kept[-1], last))
    return tuple(kept)


def merged(states: Iterable[State], checkpoint: Checkpoint = never_stop) -> State:
    """Adds states in pairs, so that a large one is not copied for each small one.

    ``checkpoint`` is called between some thousand exact sums.

    Raises:
        StateError: if tasks or numbers of classes differ, or sums become too large.
    """
    found = list(states)
    while len(found) > 1:
        pairs = zip(found[::2], found[1::2], strict=False)
        joined = [_joined(left, right, checkpoint) for left, right in pairs]
        found = [*joined, *found[len(found) & ~1 :]]
    return found[0] if found else State()


def _check_columns(left: State, right: State) -> None:
    """Checks that the columns of two states have the same shape."""
    for mine, others in zip(left.tables[:1], right.tables[:1], strict=False):
        for name in mine.keys() & others.keys():
            shapes = mine[name].shape[1:], others[name].shape[1:]
            if shapes[0] != shapes[1]:
                raise StateError(
                    f"states must have {name} of one shape, got {shapes[0]} and {shapes[1]}"
                )


def _joined(left: State, right: State, checkpoint: Checkpoint) -> State:
    if not _spoke(right):  # the shapes of an empty state do not matter
        return left
    if not _spoke(left):
        return right
    _check_columns(left, right)
    check_sum("examples", left.example_count + right.example_count)
    check_sum("ignored examples", left.ignored_count + right.ignored_count)
    tallies = dict(left.tallies)
    for name, tally in right.tallies.items():
        tallies[name] = tallies[name].plus(tally, checkpoint) if name in tallies else tally
    return State(
        task=_agreed("task", left, right),
        width=_agreed("width", left, right),
        example_count=left.example_count + right.example_count,
        ignored_count=left.ignored_count + right.ignored_count,
        silent_count=left.silent_count + right.silent_count,
        nonfinite_count=left.nonfinite_count + right.nonfinite_count,
        tallies=tallies,
        tables=_compacted(left.tables + right.tables),
    )


def _agreed(name: str, left: State, right: State) -> Any:
    """Returns what both states have; raises StateError if they differ."""
    mine, others = getattr(left, name), getattr(right, name)
    if mine == others:
        return mine
    thing = {"task": "task", "width": "number of classes, labels or outputs"}[name]
    raise StateError(
        f"batches and states must agree on the {thing}, got {_said(mine)} and {_said(others)}"
    )


def _spoke(state: State) -> bool:
    return state.example_count + state.ignored_count > 0


def _said(value: Any) -> str:
    if value is None:
        return "none stated"
    return value.value if isinstance(value, enum.Enum) else str(value)
