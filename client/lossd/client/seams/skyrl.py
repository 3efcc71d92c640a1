"""SkyRL: a function for its registry of policy losses."""

from collections.abc import Callable
from typing import Any

import torch

from lossd import v1
from lossd.client.seams._policies import check_taken, taken
from lossd.client.seams._statistics import means_of, names_of, over_tokens
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss

PolicyLoss = Callable[..., tuple[torch.Tensor, dict[str, float]]]

# What SkyRL calls the numbers that its own losses return.
NAMES = {"clip_fraction": "clip_ratio"}
# Corrections of the sampler in SkyRL's settings, which its own losses make.
CORRECTIONS = (
    "tis_ratio_type", "sequence_mask_metric", "outlier_token_is_threshold_low",
    "outlier_token_is_threshold_high", "token_mask_is_threshold_low",
    "token_mask_is_threshold_high",
)  # fmt: skip


def policy_loss(client: str | LossClient, loss: v1.PolicyGradient, **options: Any) -> PolicyLoss:
    """Returns a policy loss of SkyRL 0.3, which has divided the advantages already.

        PolicyLossRegistry.register("lossd", policy_loss("localhost:50051", presets.dapo()))

    So the loss is a sum over tokens here: how they are aggregated is SkyRL's to say.  How the
    sampler is corrected for is the ``rollout_correction`` of the loss: with an
    ``off_policy_correction`` among the settings of SkyRL a call raises ValueError.

    What the loss is asked for beside its value is logged as means over tokens, under SkyRL's name
    where SkyRL calls the same number so: its ``clip_ratio`` leaves a dual clip out.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.

    Raises:
        ValueError: for a loss that is not proportional to the advantage, and would not be divided,
            or that takes what SkyRL does not give.
    """
    if loss.objective == v1.POLICY_OBJECTIVE_DRO or loss.kl_coefficient:
        term = "kl_coefficient" if loss.kl_coefficient else "objective DRO"
        raise ValueError(f"loss must be proportional to the advantage, got {term}")
    check_taken(loss, {"rollout_log_probabilities"}, "SkyRL does not give")
    takes_rollout = bool(taken(loss))
    made, names = over_tokens(loss), names_of(loss, NAMES)
    made.aggregation = v1.TOKEN_AGGREGATION_SUM
    made.ClearField("sequence_length")
    criterion = RemoteLoss(made, client, reduction="sum", **options)

    def computed(  # noqa: PLR0917 - as SkyRL calls it
        log_probs: torch.Tensor,
        old_log_probs: torch.Tensor,
        advantages: torch.Tensor,
        config: Any = None,
        loss_mask: torch.Tensor | None = None,
        rollout_logprobs: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        _check_corrections(config)
        found = criterion(
            log_probabilities=log_probs,
            sampling_log_probabilities=old_log_probs,
            advantages=advantages,
            token_mask=None if loss_mask is None else loss_mask.bool(),
            rollout_log_probabilities=rollout_logprobs if takes_rollout else None,
        )
        means = means_of(criterion.last)
        return found, {names.get(name, name): one for name, one in means.items()}

    return computed


def _check_corrections(config: Any) -> None:
    """Raises ValueError for a correction that SkyRL's own losses would make, and no other does."""
    settings = getattr(config, "off_policy_correction", None)
    for name in CORRECTIONS:
        asked = getattr(settings, name, None)
        if asked is not None:
            raise ValueError(
                f"off_policy_correction.{name} must be None with a loss of lossd, whose "
                f"rollout_correction has its place, got {asked}"
            )
