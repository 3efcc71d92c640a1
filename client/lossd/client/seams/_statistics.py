"""Statistics of a loss as the numbers that a trainer logs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lossd import v1
from lossd.client.result import LossResult

# Objectives of which verl and SkyRL count other tokens as clipped: a dual clip is apart in verl and
# left out in SkyRL; in DPPO verl counts tokens without an advantage, and SkyRL goes by the sampler.
COUNTED_OTHERWISE = (
    v1.POLICY_OBJECTIVE_DUAL_CLIP,
    v1.POLICY_OBJECTIVE_DPPO_TV,
    v1.POLICY_OBJECTIVE_DPPO_KL,
)


def over_tokens(loss: v1.PolicyGradient) -> v1.PolicyGradient:
    """Returns a loss that tells the tokens of each sequence beside what else it is asked for.

    So the means of that are over tokens, as those are that trainers log of their own losses.
    """
    made = v1.PolicyGradient()
    made.CopyFrom(loss)
    if made.outputs and v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT not in made.outputs:
        made.outputs.append(v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT)
    return made


def names_of(loss: v1.PolicyGradient, theirs: Mapping[str, str]) -> Mapping[str, str]:
    """Returns a library's names of a loss's numbers, without those of what it counts otherwise."""
    if loss.objective not in COUNTED_OTHERWISE:
        return theirs
    return {name: one for name, one in theirs.items() if name != "clip_fraction"}


def sums_of(result: LossResult[Any] | None) -> dict[str, tuple[float, float]]:
    """Returns the sum over sequences of each number that a loss was asked for, and of the weights.

    Where it was asked for the tokens of each sequence too, these are the weights.
    """
    outputs = {} if result is None else dict(result.outputs)
    counts = np.asarray(outputs.pop("token_count", 1.0), np.float64)
    return {
        name: (float((each * counts).sum()), float(np.broadcast_to(counts, len(each)).sum()))
        for name, each in outputs.items()
    }


def means_of(result: LossResult[Any] | None) -> dict[str, float]:
    """Returns the means of the numbers that a loss was asked for; 0 for those without weights.

    Trainers reduce name by name over micro-batches and processes, of which some may have no tokens:
    they need the same names from all.
    """
    return {
        name: total / weight if weight else 0.0 for name, (total, weight) in sums_of(result).items()
    }
