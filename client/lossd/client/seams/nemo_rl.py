"""NeMo-RL: a ``LossFunction`` of next-token log-probabilities."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch

from lossd import v1
from lossd.client.seams._statistics import means_of
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss


class PolicyLoss:
    """A policy gradient of lossd as NeMo-RL of 2026-08 calls one.

    TOKEN_MEAN divides by the valid tokens of the global batch, the others by its valid sequences.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.
    """

    def __init__(self, client: str | LossClient, loss: v1.PolicyGradient, **options: Any) -> None:
        kinds: Any = importlib.import_module("nemo_rl.algorithms.loss.interfaces")
        self._by_token = loss.aggregation == v1.TOKEN_AGGREGATION_TOKEN_MEAN
        levels = kinds.LossType
        self.loss_type = levels.TOKEN_LEVEL if self._by_token else levels.SEQUENCE_LEVEL
        self.input_type = kinds.LossInputType.LOGPROB
        self._loss = loss
        self._criterion = RemoteLoss(loss, client, **options)

    def __call__(
        self,
        data: Mapping[str, Any],
        global_valid_seqs: torch.Tensor,
        global_valid_toks: torch.Tensor,
        *,
        next_token_logprobs: torch.Tensor,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Returns the loss and its statistics; nothing predicts the first token of a sequence."""
        mask = data["token_mask"] * data["sample_mask"][:, None]
        given = {
            "log_probabilities": next_token_logprobs,
            "sampling_log_probabilities": data["prev_logprobs"][:, 1:],
            "advantages": data["advantages"][:, 1:],
            "token_mask": mask[:, 1:].bool(),
        }
        if self._loss.kl_estimator:
            given["reference_log_probabilities"] = data["reference_policy_logprobs"][:, 1:]
        if self._loss.rollout_correction:
            given["rollout_log_probabilities"] = data["generation_logprobs"][:, 1:]
        divisor = global_valid_toks if self._by_token else global_valid_seqs
        found = self._criterion(**given, normalizer=max(float(divisor), 1.0))
        return found, {"loss": float(found.detach()), **means_of(self._criterion.last)}
