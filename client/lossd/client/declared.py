"""The inputs that a loss declares, for adapters that cannot wait for the server's refusal.

Where a framework traces a call, what the server refuses comes when the program runs, from within
the framework and in its words.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lossd.client import arguments, kinds
from lossd.client.errors import InvalidRequestError
from lossd.client.responses import read_required_names


class DeclaredInputs:
    """The inputs of a loss, as the server of a client declares them.

    The server is asked once for their names, and once for those that are needed if some are left
    out.  A client that only computes, as one that wraps another may, is not asked.

    Args:
        client: A client that waits for its answers.
        loss: The loss.
        beside: The names of what a call takes besides inputs.
        before: The names of what was given with the loss.
    """

    def __init__(
        self, client: Any, loss: Any, *, beside: Iterable[str], before: Iterable[str]
    ) -> None:
        self._client = client
        self._loss = loss
        self._spec = kinds.spec_of(loss)
        self._beside = tuple(beside)
        self._before = frozenset(before)
        self._needed: tuple[str, ...] | None = None

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuses the inputs of a call that are not those of the loss.

        Raises:
            InvalidRequestError: for a name of no input, or of an option; for one that is missing.
            LossdError: if the server does not answer.
        """
        names = self._client.input_names(self._loss) if self._tells("input_names") else None
        if names is not None and given.keys() == set(names):
            return
        for name in given:
            if name in arguments.compute_options and name not in (names or ()):
                raise self._option(name)
        kinds.refuse_parameters(self._spec, given)
        if names is not None:
            arguments.check_names(given, names, self._beside)
        for name in self._required():
            if name not in given:
                raise _invalid(f"{name} must be given, got none")
        if not given:
            raise _invalid("inputs must be given, got none")

    def _required(self) -> tuple[str, ...]:
        if self._needed is None:
            self._needed = ()
            if self._tells("list_losses"):
                known = read_required_names(self._client.list_losses())
                self._needed = kinds.names_of(self._spec, known)
        return self._needed

    def _tells(self, method: str) -> bool:
        return callable(getattr(self._client, method, None))

    def _option(self, name: str) -> InvalidRequestError:
        hint = ": give it with the loss" if name in self._before else ""
        return _invalid(f"inputs must be tensors, got {name}, an option{hint}")


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field="inputs")
