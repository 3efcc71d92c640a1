"""Sums of losses: ``weighted_sum((0.7, CrossEntropy()), (0.3, Dice()))``.

Nothing here does any input or output.
"""

from collections.abc import Mapping
from typing import Any

from lossd import v1
from lossd.client import arguments, kinds
from lossd.client.arrays import is_sendable
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import NamedLoss

# A weight, a loss, and optionally the call's names of inputs by the loss's names.
Term = tuple[float, NamedLoss] | tuple[float, NamedLoss, Mapping[str, str]]


def weighted_sum(*terms: "Term") -> v1.WeightedSum:
    """Returns a loss that is the weighted sum of others, all over the inputs of one call.

    Its inputs are those of all terms; a name that several terms share is one input. A third member
    of a term names inputs of its own: ``(0.3, Dice(), {"predictions": "masks"})`` takes the input
    ``masks`` of the call for the predictions of Dice.

    Parameters are not shared: the gradient of the total with respect to one of them is named by the
    position of its term, ``gradients=["queries", "terms[0].temperature"]``, and includes the term's
    weight.

    Args:
        *terms: A weight, a loss, and optionally the call's names of inputs, by the loss's names.

    Raises:
        InvalidRequestError: for an invalid term.
    """
    found = v1.WeightedSum()
    for position, term in enumerate(terms):
        weight, loss, *names = _parts(position, term)
        found.terms.add(
            weight=arguments.number(f"terms[{position}].weight", weight),
            loss=kinds.spec_of(loss),
            input_names=_names(position, *names),
        )
    return found


def _parts(position: int, term: object) -> tuple[Any, ...]:
    if isinstance(term, tuple) and len(term) in (2, 3):
        return term
    raise _invalid(position, "a weight, a loss and perhaps names of inputs", term)


def _names(position: int, names: Any = None) -> dict[str, str]:
    if names is None:
        return {}
    if not isinstance(names, Mapping) or not all(
        isinstance(text, str) and is_sendable(text) for pair in names.items() for text in pair
    ):
        raise _invalid(position, "names of inputs by the names of the loss", names)
    return dict(names)


def _invalid(position: int, rule: str, value: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"terms[{position}] must be {rule}, got {value!r}", field=f"terms[{position}]"
    )
