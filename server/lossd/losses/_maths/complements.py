"""The complement of a probability, by its logarithm."""

import numpy as np

from lossd.losses._maths.constants import LOG_2
from lossd.schema import Array


def log_rest(logs: Array) -> Array:
    """Returns log(1 - exp(x)) of log-probabilities, -inf for certainty.

    Near certainty exp(x) would lose what is left, and far from it 1 - exp(x) what is not.
    """
    return np.where(logs > -LOG_2, np.log(-np.expm1(logs)), np.log1p(-np.exp(logs)))
