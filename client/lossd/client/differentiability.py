"""The inputs that a loss is differentiable in, for adapters that cannot wait for a refusal.

Where a framework traces a call, what the server refuses comes when the program runs, from within
the framework and in its words.
"""

from collections.abc import Iterable
from typing import Any

from lossd.client import kinds
from lossd.client.errors import InvalidRequestError
from lossd.client.input_names import names_of
from lossd.client.reaching import Allowance
from lossd.client.responses import read_differentiable_names


class Differentiability:
    """The inputs that a loss is differentiable in, as the server of a client declares them.

    The server is asked once, when a gradient is first wanted, and once more before one is refused,
    as the one there now may be newer.  A client that only computes, as one that wraps another may,
    is not asked.

    Args:
        client: A client that waits for its answers.
        loss: The loss.
        remedy: How to make a constant of an input.
        timeout: Seconds for what the server is asked; None for the client's.
    """

    def __init__(
        self, client: Any, loss: Any, *, remedy: str, timeout: float | None = None
    ) -> None:
        self._client = client
        self._loss = loss
        self._remedy = remedy
        self._timeout = timeout
        self._names: tuple[str, ...] | None = None

    def check(self, wanted: Iterable[str]) -> None:
        """Refuses gradients with respect to inputs that have none.

        Raises:
            InvalidRequestError: for such an input.
            LossdError: if the server does not answer.
        """
        wanted = tuple(wanted)
        if self._names is None or not {*wanted} <= {*self._names}:
            self._names = self._asked()
        for name in wanted:
            if self._names is not None and name not in self._names:
                raise InvalidRequestError(
                    f"gradients must be among {', '.join(self._names)} for "
                    f"{self._loss.DESCRIPTOR.name}, got {name!r:.64}: use {self._remedy}",
                    field="gradients.inputs",
                )

    def _asked(self) -> tuple[str, ...] | None:
        """Returns those inputs; None where nobody tells."""
        if not callable(getattr(self._client, "list_losses", None)):
            return None
        within = Allowance(self._timeout).within()
        known = read_differentiable_names(self._client.list_losses(**within))
        return names_of(kinds.spec_of(self._loss), known)
