"""A page about a loss or a metric: plain data.

``page_text`` shows it to people, ``--json`` to programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossd.cli.equivalents import Equivalent


@dataclass(frozen=True, slots=True)
class InputEntry:
    """One input; ``dtypes`` is empty for texts, and for metrics, which take any fitting type."""

    name: str
    description: str
    shapes: Sequence[str]
    dtypes: Sequence[str]
    gradient: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """One parameter; ``choices`` are the members of an enum and their meanings."""

    name: str
    type: str
    default: str
    bounds: str
    description: str
    choices: Mapping[str, str]
    gradient: str


@dataclass(frozen=True, slots=True)
class Page:
    """A loss or a metric; empty is what does not apply to it, or is not known.

    ``surrogate`` is the loss to train with instead of a metric, ``stands_for`` the metrics that a
    loss replaces in training; ``kinks`` are inputs in which it is not differentiable everywhere.
    """

    name: str
    message: str
    task: str
    summary: str = ""
    formula: str = ""
    notes: str = ""
    reference: str = ""
    inputs: Sequence[InputEntry] = ()
    parameters: Sequence[ParameterEntry] = ()
    kinks: Sequence[str] = ()
    surrogate: str = ""
    stands_for: Sequence[str] = ()
    equivalents: Sequence[Equivalent] = ()
    example: str = ""
    command: str = ""
    python: str = ""

    def has(self, words: Sequence[str]) -> bool:
        """Returns whether each of the words is somewhere in it, ignoring case."""
        described = [f"{one.name} {one.description}" for one in self.inputs]
        described += [one.name for one in self.equivalents]
        for one in self.parameters:
            described += [one.name, one.description, *one.choices, *one.choices.values()]
        parts = (self.name, self.message, self.task, self.summary, self.notes, self.reference)
        text = " ".join([*parts, *described]).lower()
        return all(word.lower() in text for word in words)
