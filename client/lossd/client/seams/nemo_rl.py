"""NeMo-RL: a ``LossFunction`` of next-token log-probabilities."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from lossd import v1
from lossd.client.seams._policies import check_taken, taken
from lossd.client.seams._statistics import sums_of
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss
from lossd.naming import name_of

# What NeMo-RL calls the further inputs of a loss.
BESIDE: Mapping[str, str] = MappingProxyType(
    {
        "reference_log_probabilities": "reference_policy_logprobs",
        "rollout_log_probabilities": "generation_logprobs",
    }
)


class PolicyLoss:
    """A policy gradient of lossd as NeMo-RL of 2026-08 calls one.

    TOKEN_MEAN divides by the valid tokens of the global batch, the others by its valid sequences.
    Statistics are shares of means over sequences, or over tokens where TOKEN_COUNT is among the
    outputs, which NeMo-RL adds up over micro-batches and workers.  Tokens that its filters of
    samples leave out count nowhere.  Where it filters by top-k or top-p, a call with a KL term
    raises ValueError: log-probabilities after the filter are none to compare with a reference's.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.

    Raises:
        ValueError: for a loss that takes what NeMo-RL does not give.
    """

    def __init__(self, client: str | LossClient, loss: v1.PolicyGradient, **options: Any) -> None:
        kinds: Any = importlib.import_module("nemo_rl.algorithms.loss.interfaces")
        check_taken(loss, BESIDE, "NeMo-RL does not give")
        self._by_token = loss.aggregation == v1.TOKEN_AGGREGATION_TOKEN_MEAN
        levels = kinds.LossType
        self.loss_type = levels.TOKEN_LEVEL if self._by_token else levels.SEQUENCE_LEVEL
        self.input_type = kinds.LossInputType.LOGPROB
        # NeMo-RL looks whether it is 0, and prepares log-probabilities without its filters if not.
        self.reference_policy_kl_penalty = float("reference_log_probabilities" in taken(loss))
        if hasattr(kinds, "MetricNormalizer"):  # which releases before have not
            self.metric_normalizations = _normalizations(kinds.MetricNormalizer, loss)
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
        self._check_unfiltered(data)
        given = {
            "log_probabilities": next_token_logprobs,
            "sampling_log_probabilities": data["prev_logprobs"][:, 1:],
            "advantages": data["advantages"][:, 1:],
            "token_mask": _mask(data),
        }
        given |= {name: data[BESIDE[name]][:, 1:] for name in taken(self._loss)}
        sequences, tokens = (max(float(n), 1.0) for n in (global_valid_seqs, global_valid_toks))
        valid = data["sample_mask"]
        divisor = tokens if self._by_token else sequences
        found = self._criterion(**given, weights=valid, normalizer=divisor)
        weight = tokens if _is_told_by_token(self._loss) else sequences
        totals = sums_of(self._criterion.last)
        return found, {
            "loss": float(found.detach()),
            "num_valid_samples": float(valid.sum()),
            **{name: total / weight for name, (total, _) in totals.items()},
        }

    def _check_unfiltered(self, data: Mapping[str, Any]) -> None:
        """Raises ValueError for a KL term of log-probabilities that were filtered."""
        if self.reference_policy_kl_penalty and "curr_logprobs_unfiltered" in data:
            value = taken(self._loss)["reference_log_probabilities"][1]
            raise ValueError(
                "kl_estimator must be NONE where NeMo-RL filters by top-k or top-p, as its "
                f"reference is not filtered, got {value}"
            )


def _is_told_by_token(loss: v1.PolicyGradient) -> bool:
    """Returns whether statistics are means over tokens, and not over sequences."""
    return v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT in loss.outputs


def _normalizations(levels: Any, loss: v1.PolicyGradient) -> dict[str, Any]:
    """Returns by what each number is divided, which NeMo-RL may do itself afterwards."""
    by_token = loss.aggregation == v1.TOKEN_AGGREGATION_TOKEN_MEAN
    of_statistics = levels.TOKENS if _is_told_by_token(loss) else levels.SEQUENCES
    outputs = v1.PolicyGradientOutput.DESCRIPTOR
    names = (name_of(outputs, one).lower() for one in loss.outputs)
    return {
        **dict.fromkeys(names, of_statistics),
        "loss": levels.TOKENS if by_token else levels.SEQUENCES,
        "num_valid_samples": levels.NONE,
    }


def _mask(data: Mapping[str, Any]) -> torch.Tensor:
    """Returns which of the tokens that are predicted count."""
    found: torch.Tensor = data["token_mask"][:, 1:].bool()
    if "curr_logprobs_keep_mask" in data:
        found = found & data["curr_logprobs_keep_mask"].bool()  # into a tensor of its own
    return found
