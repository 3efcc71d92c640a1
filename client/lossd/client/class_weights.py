"""Class weights from how often each class occurs, for the ``class_weights`` of a loss.

Nothing here does any input or output.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import forms
from lossd.client import arguments
from lossd.client.arrays import to_array
from lossd.client.errors import InvalidRequestError

Weights = npt.NDArray[np.float64]


def balanced_weights(counts: Any) -> Weights:
    """Returns weights that give every class the same total weight, however rare it is.

        counts = np.bincount(labels, minlength=10)
        CrossEntropy(class_weights=balanced_weights(counts))

        w_c = N / (C n_c),  N examples of C classes

    It is what scikit-learn calls "balanced"; the mean weight of an example is 1. For one weight of
    the positive answers, as ``BinaryCrossEntropy`` takes it, divide the count of negatives by that
    of positives.

    A class of count 0 has weight 0 and is not counted in C: an example of it, should there be one
    after all, contributes nothing.

    Args:
        counts: How many examples each class has, or their total weight: an array-like with one
            axis, each number in [0, inf); or a mapping from each class, 0 to C - 1, to it.

    Returns:
        One float64 for each class.

    Raises:
        InvalidRequestError: for other counts, or if no class occurs.

    Reference: G. King and L. Zeng, Logistic regression in rare events data, 2001.
    """
    checked = _checked(counts)
    occurs = checked > 0
    # Divided before anything is multiplied, so that huge counts do not overflow.
    shares = checked[occurs] / checked.max()
    return _placed(shares.mean() / shares, occurs)


def effective_number_weights(counts: Any, beta: float = 0.999) -> Weights:
    """Returns weights in inverse proportion to the effective number of a class's examples.

        w_c in proportion to (1 - beta) / (1 - beta^n_c),  sum_c w_c = C

    The effective number grows less with each example, the more there are. beta = 0 gives equal
    weights, and beta towards 1 the proportions of ``balanced_weights``.

    A class of count 0 has weight 0 and is not counted in C, as in ``balanced_weights``.

    Args:
        counts: As in ``balanced_weights``.
        beta: The factor by which each further example adds less, in [0, 1); the paper tries 0.9 to
            0.9999.

    Returns:
        One float64 for each class.

    Raises:
        InvalidRequestError: for other counts or another beta, or if no class occurs.

    Reference: Y. Cui et al., Class-balanced loss based on effective number of samples, 2019,
    section 4.
    """
    checked = _checked(counts)
    share = arguments.number("beta", beta)
    if share is None or not 0 <= share < 1:
        raise InvalidRequestError(f"beta must be in [0, 1), got {beta!r}", field="beta")
    occurs = checked > 0
    with np.errstate(divide="ignore"):  # the logarithm of 0 is wanted here
        # 1 - beta^n, which would lose its digits where beta is near 1.
        remainders = -np.expm1(checked[occurs] * np.log(share))
    shares = remainders.min() / remainders
    return _placed(shares / shares.mean(), occurs)


def _checked(counts: Any) -> Weights:
    array = to_array("counts", _listed(counts))
    if array.ndim != 1:
        raise _invalid(f"counts must have one axis, got {array.ndim}")
    numbers = array.astype(np.float64)
    wrong = np.flatnonzero(~((numbers >= 0) & (numbers < np.inf)))
    if len(wrong):
        raise _invalid(f"counts[{wrong[0]}] must be in [0, inf), got {array[wrong[0]]}")
    if not numbers.any():
        raise _invalid(f"counts must have a class that occurs, got none among {len(numbers)}")
    return numbers


def _listed(counts: Any) -> Any:
    """Returns counts by class, as from a Counter or from pandas, in the order of the classes."""
    if not hasattr(counts, "keys"):
        return counts
    try:
        return forms.items("counts", counts)
    except forms.FormError as error:
        raise _invalid(str(error)) from error


def _placed(weights: Weights, occurs: npt.NDArray[np.bool_]) -> Weights:
    """Returns the weights of the classes that occur, and 0 for the others."""
    placed = np.zeros(len(occurs))
    placed[occurs] = weights
    return placed


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field="counts")
