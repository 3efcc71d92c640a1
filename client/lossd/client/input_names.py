"""The names of the inputs of losses, in the order in which the server says that they come."""

from collections.abc import Mapping
from typing import Any

from lossd import v1
from lossd.client import kinds
from lossd.client.arguments import have_places
from lossd.client.errors import UnknownLossError


def names_of(spec: v1.LossSpec, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the names of the inputs of a loss; of a sum those of its terms, in their order.

    Raises:
        UnknownLossError: if a loss is not among the known ones.
    """
    for loss in kinds.loss_names(spec):
        if loss not in known:
            raise UnknownLossError(f"loss must be one that the server knows, got {loss}")
    if kinds.loss_name(spec) != "weighted_sum":
        return known[kinds.loss_name(spec)]
    names = (
        term.input_names.get(name, name)
        for term in spec.weighted_sum.terms
        for name in known[kinds.loss_name(term.loss)]
    )
    return tuple(dict.fromkeys(names))


class InputNames:
    """The names of the inputs of each loss of a server, in order; threads and tasks may share them.

    They are those that the server said last; before it was asked there are none.
    """

    def __init__(self) -> None:
        self._known: Mapping[str, tuple[str, ...]] = {}

    def of_single(self, loss: object) -> tuple[str, ...] | None:
        """Returns those of a single loss that is known; None for any other."""
        name = loss if isinstance(loss, str) else kinds.member_of(v1.LossSpec, loss)
        return None if name is None or name == "weighted_sum" else self._known.get(name)

    def find(
        self, loss: object, count: int = 0, named: Mapping[str, Any] | None = None
    ) -> tuple[str, ...] | None:
        """Returns those of a loss, also of a sum; None where the server has to be asked.

        It has to be asked again where they have no place for so many positional inputs and for
        those by name: the one there now may be newer.

        Raises:
            InvalidRequestError: if it is no loss.
        """
        found = self.of_single(loss)
        if found is None:
            spec, known = kinds.spec_of(loss), self._known
            found = names_of(spec, known) if known.keys() >= set(kinds.loss_names(spec)) else None
        return found if found is not None and have_places(found, count, named or {}) else None

    def learned(self, loss: object, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Keeps what the server said, and returns those of a loss.

        Raises:
            UnknownLossError: if the server does not know the loss.
        """
        self._known = known
        return names_of(kinds.spec_of(loss), known)
