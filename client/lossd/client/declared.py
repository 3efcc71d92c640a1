"""The inputs that a loss declares, for adapters that cannot wait for the server's refusal.

Where a framework traces a call, what the server refuses comes when the program runs, from within
the framework and in its words.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lossd.client import arguments, kinds
from lossd.client.errors import InvalidRequestError
from lossd.client.input_names import names_of
from lossd.client.reaching import Allowance
from lossd.client.responses import read_required_names


class DeclaredInputs:
    """The inputs of a loss, as the server of a client declares them.

    The server is asked once for their names, and once for those that are needed if some are left
    out; and once more, as the one there now may be newer, before a call is refused.  A client that
    only computes, as one that wraps another may, is not asked.

    Args:
        client: A client that waits for its answers.
        loss: The loss.
        beside: The names of what a call takes besides inputs.
        before: The names of what was given with the loss.
        timeout: Seconds for what the server is asked; None for the client's.
    """

    def __init__(
        self,
        client: Any,
        loss: Any,
        *,
        beside: Iterable[str],
        before: Iterable[str],
        timeout: float | None = None,
    ) -> None:
        self._client = client
        self._loss = loss
        self._spec = kinds.spec_of(loss)
        self._beside = tuple(beside)
        self._before = frozenset(before)
        self._timeout = timeout
        self._needed: tuple[str, ...] | None = None

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuses the inputs of a call that are not those of the loss.

        Raises:
            InvalidRequestError: for a name of no input, or of an option; for one that is missing.
            LossdError: if the server does not answer.
        """
        time = Allowance(self._timeout)
        names = None
        if self._tells("input_names"):
            names = time.names_of(self._client, self._loss, 0, given)
        if names is not None and given.keys() == set(names):
            return
        for name in given:
            if name in arguments.compute_options and name not in (names or ()):
                raise self._option(name)
        kinds.refuse_parameters(self._spec, given)
        if names is not None:
            arguments.check_names(given, names, self._beside)
        for name in self._missing(given, time):
            raise _invalid(f"{name} must be given, got none")
        if not given:
            raise _invalid("inputs must be given, got none")

    def _missing(self, given: Mapping[str, Any], time: Allowance) -> list[str]:
        """Returns the names of inputs that are needed and left out, in their order."""
        if not self._tells("list_losses"):
            return []
        if self._needed is None or not given.keys() >= set(self._needed):
            known = read_required_names(self._client.list_losses(**time.within()))
            self._needed = names_of(self._spec, known)
        return [name for name in self._needed if name not in given]

    def _tells(self, method: str) -> bool:
        return callable(getattr(self._client, method, None))

    def _option(self, name: str) -> InvalidRequestError:
        hint = ": give it with the loss" if name in self._before else ""
        return _invalid(f"inputs must be tensors, got {name}, an option{hint}")


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field="inputs")
