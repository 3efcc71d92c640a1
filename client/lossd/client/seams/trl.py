"""TRL: the loss of a ``GRPOTrainer``.

TRL 1.16 has ``_compute_loss`` run the model and make a loss of its log-probabilities; what it
divides by is of the whole generation batch, over all processes and steps of accumulation.  In the
protocol that TRL discusses for training services, ``log_probs.register_hook(client.backward)``, the
hook is given the gradient of a loss that was computed so.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from lossd import v1
from lossd.client.seams._statistics import means_of
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss


def grpo_loss(
    client: str | LossClient, loss: v1.PolicyGradient, **options: Any
) -> Callable[[Any, Any, Mapping[str, Any]], torch.Tensor]:
    """Returns a ``_compute_loss`` for a subclass of ``GRPOTrainer``.

        class Trainer(GRPOTrainer):
            _compute_loss = grpo_loss("localhost:50051", presets.dapo())

    TOKEN_MEAN divides by the tokens of the generation batch, as ``loss_type="dapo"`` does, and the
    others by sequences.  What the loss is asked for beside its value is logged under its name.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.

    Raises:
        ValueError: for the aggregation by groups, which TRL does not tell.
    """
    if loss.aggregation == v1.TOKEN_AGGREGATION_GROUP_MEAN:
        raise ValueError("aggregation must be another than GROUP_MEAN, got GROUP_MEAN")
    criterion = RemoteLoss(loss, client, **options)
    has_entropies = v1.POLICY_GRADIENT_OUTPUT_ENTROPY in loss.outputs

    def computed(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        mask = inputs["completion_mask"]
        if "tool_mask" in inputs:
            mask = mask * inputs["tool_mask"]
        logs, entropies = _of_model(trainer, model, inputs, has_entropies=has_entropies)
        before = inputs.get("old_per_token_logps")
        given = {
            "log_probabilities": logs,
            "sampling_log_probabilities": logs.detach() if before is None else before,
            "advantages": inputs["advantages"],
            "token_mask": mask.bool(),
        }
        if has_entropies:
            given["entropies"] = entropies
        if loss.kl_estimator:
            given["reference_log_probabilities"] = inputs["ref_per_token_logps"]
        if loss.rollout_correction:
            given["rollout_log_probabilities"] = inputs["sampling_per_token_logps"]
        found: torch.Tensor = criterion(**given, normalizer=_divisor(trainer, loss, inputs))
        mode = "train" if trainer.model.training else "eval"
        for name, number in means_of(criterion.last).items():
            trainer._metrics[mode][name].append(number)  # noqa: SLF001 - as its own loss does
        return found

    return computed


def _of_model(
    trainer: Any, model: Any, inputs: Mapping[str, Any], *, has_entropies: bool
) -> tuple[torch.Tensor, Any]:
    """Returns log-probabilities and entropies of tokens, these without a graph."""
    completion = inputs["completion_ids"]
    found = trainer._get_per_token_logps_and_entropies(  # noqa: SLF001 - as its own loss does
        model,
        torch.cat([inputs["prompt_ids"], completion], dim=1),
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        completion.size(1),
        compute_entropy=has_entropies,
    )
    return found[0], found[1].detach() if has_entropies else None


def _divisor(trainer: Any, loss: Any, inputs: Mapping[str, Any]) -> float:
    """Returns what this step's share of the loss is divided by."""
    is_training = trainer.model.training
    steps = trainer.current_gradient_accumulation_steps if is_training else 1
    if loss.aggregation != v1.TOKEN_AGGREGATION_TOKEN_MEAN:
        return float(len(inputs["completion_mask"]) * steps)
    tokens = max(float(inputs["num_items_in_batch"]), 1.0) / trainer.accelerator.num_processes
    return float(tokens * steps / (trainer.args.steps_per_generation if is_training else 1))
