"""Numbers of each sequence that people plot while a policy is trained."""

import enum
from collections.abc import Collection, Mapping

import numpy as np

from lossd.losses._body import Output
from lossd.losses._maths.policy_tokens import PolicyTokens
from lossd.losses._maths.tokens import Tokens
from lossd.schema import Array


class PolicyGradientOutput(enum.Enum):
    """Auxiliary outputs of each sequence."""

    CLIP_FRACTION = Output("clip_fraction", "share of the tokens that the objective clips or masks")
    RATIO = Output("ratio", "mean of the ratios of its tokens")
    LARGEST_RATIO = Output("largest_ratio", "largest ratio of its tokens")
    KL = Output("kl", "mean of the estimates of the divergence from the reference")
    ROLLOUT_GAP = Output(
        "rollout_gap", "mean of |sampling - rollout log-probability| of its tokens"
    )
    TOKEN_COUNT = Output("token_count", "how many of its tokens count")
    RATIO_P05 = Output("ratio_p05", "ratio that 5 of 100 of its tokens are at most")
    RATIO_P50 = Output("ratio_p50", "ratio that half of its tokens are at most")
    RATIO_P95 = Output("ratio_p95", "ratio that 95 of 100 of its tokens are at most")
    SAMPLING_KL = Output(
        "sampling_kl",
        "mean of sampling less trained log-probability, an estimate of how far it went",
    )
    ENTROPY = Output("entropy", "mean of the entropies of its tokens, where they are given")


_PERCENTILES = {
    PolicyGradientOutput.RATIO_P05: 5,
    PolicyGradientOutput.RATIO_P50: 50,
    PolicyGradientOutput.RATIO_P95: 95,
}


def means_of(
    given: PolicyTokens,
    clipped: Array,
    divergence: tuple[Array, Array] | None,
    entropies: Array | None,
) -> dict[PolicyGradientOutput, Array | None]:
    """Returns the numbers of tokens of which outputs are means; None for what is not given."""
    sampling, rollout = given.sampling, given.rollout
    gap = None if sampling is None or rollout is None else abs(sampling - rollout)
    return {
        PolicyGradientOutput.CLIP_FRACTION: clipped.astype(np.float64),
        PolicyGradientOutput.KL: None if divergence is None else divergence[0],
        PolicyGradientOutput.ROLLOUT_GAP: gap,
        PolicyGradientOutput.SAMPLING_KL: None if sampling is None else sampling - given.logs,
        PolicyGradientOutput.ENTROPY: entropies,
    }


def outputs_of(
    wanted: Collection[PolicyGradientOutput],
    tokens: Tokens,
    ratios: Array,
    means: Mapping[PolicyGradientOutput, Array | None],
) -> dict[str, Array]:
    """Returns the wanted outputs by name.

    ``means`` are those of ``means_of``; an output of what is not given is 0.
    """
    ordered = tokens.ordered(ratios) if _PERCENTILES.keys() & set(wanted) else ratios
    given = {PolicyGradientOutput.RATIO: ratios, **means}
    averaged = {member: numbers for member in wanted if (numbers := given.get(member)) is not None}
    found = dict(zip(averaged, tokens.means_together(list(averaged.values())), strict=True))

    def output(member: PolicyGradientOutput) -> Array:
        if member is PolicyGradientOutput.LARGEST_RATIO:
            return tokens.largest(ratios)
        if member in _PERCENTILES:
            return tokens.percentile(ordered, _PERCENTILES[member])
        if member is PolicyGradientOutput.TOKEN_COUNT and tokens.counts is not None:
            return tokens.counts
        return found.get(member, np.zeros(tokens.number))

    return {member.value.name: output(member) for member in wanted}
