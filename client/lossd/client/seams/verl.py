"""verl: a function for its registry of policy losses."""

from collections.abc import Callable
from typing import Any

import torch

from lossd import v1
from lossd.client.reaching import client_of
from lossd.client.seams._policies import check_taken
from lossd.client.seams._statistics import means_of, names_of, over_tokens
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss

PolicyLoss = Callable[..., tuple[torch.Tensor, dict[str, Any]]]

AGGREGATIONS = {
    "token-mean": v1.TOKEN_AGGREGATION_TOKEN_MEAN,
    "token-sum": v1.TOKEN_AGGREGATION_SUM,
    "seq-mean-token-sum": v1.TOKEN_AGGREGATION_SUM,
    "seq-mean-token-mean": v1.TOKEN_AGGREGATION_SEQUENCE_MEAN,
    "seq-mean-token-sum-norm": v1.TOKEN_AGGREGATION_CONSTANT_LENGTH,
}
# What verl calls the numbers that its own losses return.
NAMES = {"clip_fraction": "actor/pg_clipfrac", "sampling_kl": "actor/ppo_kl"}


def policy_loss(client: str | LossClient, loss: v1.PolicyGradient, **options: Any) -> PolicyLoss:
    """Returns a policy loss of verl 0.9, whose ``loss_agg_mode`` says how tokens are aggregated.

        register_policy_loss("lossd")(policy_loss("localhost:50051", presets.dual_clip_ppo()))

    What the loss is asked for beside its value is logged as means over tokens, under verl's name
    where verl calls the same number so: ``actor/clip_fraction`` of a dual clip holds what verl
    tells apart.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``; its aggregation is verl's to say.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.

    Raises:
        ValueError: for a loss that takes what verl does not give: it adds a KL term and corrects
            for the sampler itself.
    """
    check_taken(loss, (), "verl does not give")
    remote = client_of(client, options.get("timeout"))
    asked, names = over_tokens(loss), names_of(loss, NAMES)

    def computed(  # noqa: PLR0917 - as verl calls it
        old_log_prob: torch.Tensor,
        log_prob: torch.Tensor,
        advantages: torch.Tensor,
        response_mask: torch.Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        batch = {} if config is None else dict(config.global_batch_info)
        mask = response_mask.bool()
        criterion = RemoteLoss(_aggregated(asked, loss_agg_mode, batch), remote, **options)
        found = criterion(
            log_probabilities=log_prob,
            sampling_log_probabilities=old_log_prob,
            advantages=advantages,
            token_mask=mask,
            token_weights=rollout_is_weights,
            normalizer=_divisor(loss_agg_mode, mask, batch),
        )
        means = means_of(criterion.last)
        return found, {names.get(name, f"actor/{name}"): one for name, one in means.items()}

    return computed


def _aggregated(loss: v1.PolicyGradient, mode: str, batch: dict[str, Any]) -> v1.PolicyGradient:
    """Returns the loss as verl aggregates it.

    Raises:
        ValueError: for a mode of another version, or one that would depend on the micro-batch.
    """
    if mode not in AGGREGATIONS:
        raise ValueError(f"loss_agg_mode must be one of {list(AGGREGATIONS)}, got {mode}")
    made = v1.PolicyGradient()
    made.CopyFrom(loss)
    made.aggregation = AGGREGATIONS[mode]
    made.ClearField("sequence_length")
    if mode == "seq-mean-token-sum-norm":
        length = batch.get("loss_scale_factor")
        if length is None:  # the width of each micro-batch is another
            raise ValueError(f"loss_scale_factor must be given with {mode}, got none")
        made.sequence_length = length
    return made


def _divisor(mode: str, mask: torch.Tensor, batch: dict[str, Any]) -> float:
    """Returns what verl divides by, of which each of its processes averages a share.

    Raises:
        ValueError: where there are other processes and their tokens or sequences are not told.
    """
    processes = batch.get("dp_size", 1)
    if mode == "token-sum":
        return 1.0 / float(processes)
    name = "batch_num_tokens" if mode == "token-mean" else "global_batch_size"
    whole = batch.get(name)
    if whole is None:
        if processes > 1:
            raise ValueError(f"{name} must be given with {processes} processes, got none")
        whole = mask.sum() if mode == "token-mean" else mask.any(dim=-1).sum()
    return max(float(whole), 1.0) / float(processes)
