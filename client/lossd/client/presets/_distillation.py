"""Distillation of papers and libraries."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from lossd import v1
from lossd.client.presets._words import chosen


def distillation(*, temperature: float = 1.0) -> v1.Distillation:
    """Returns the divergence of the student from the teacher, the mean over tokens.

    Source: G. Hinton et al., Distilling the knowledge in a neural network, 2015, without the factor
    of the squared temperature.
    """
    return v1.Distillation(
        divergence=v1.DISTILLATION_DIVERGENCE_FORWARD_KL,
        support=v1.DISTILLATION_SUPPORT_WHOLE,
        aggregation=v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        temperature=temperature,
    )


_GKD: Mapping[str, v1.DistillationDivergence] = MappingProxyType(
    {
        "paper": v1.DISTILLATION_DIVERGENCE_JENSEN_SHANNON,
        "trl": v1.DISTILLATION_DIVERGENCE_JENSEN_SHANNON,
        "interpolated": v1.DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON,
    }
)


def gkd(dialect: Literal["paper", "trl", "interpolated"], *, beta: float = 0.5) -> v1.Distillation:
    """Returns generalized knowledge distillation, in one of its living conventions.

    Source: "paper": R. Agarwal et al., On-policy distillation of language models, 2024, eq. 1: 0 at
    both ends of beta; "trl": TRL 1.16.0: the paper's, but forward KL at 0 and reverse KL at 1,
    where it jumps; "interpolated": ms-swift from 2026-09: it goes steadily from forward KL at 0 to
    reverse KL at 1.

    Raises:
        ValueError: if there is no such dialect.
    """
    message = v1.Distillation(
        divergence=chosen("dialect", dialect, _GKD),
        support=v1.DISTILLATION_SUPPORT_WHOLE,
        aggregation=v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        beta=beta,
    )
    if dialect == "trl" and beta in {0, 1}:
        ends = v1.DISTILLATION_DIVERGENCE_FORWARD_KL, v1.DISTILLATION_DIVERGENCE_REVERSE_KL
        message.divergence = ends[int(beta)]
        message.ClearField("beta")
    return message
