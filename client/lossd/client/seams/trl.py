"""TRL: the loss of a ``GRPOTrainer``.

TRL 1.16 has ``_compute_loss`` run the model and make a loss of its log-probabilities; what it
divides by is of the whole generation batch, over all processes and steps of accumulation.  In the
protocol that TRL discusses for training services, ``log_probs.register_hook(client.backward)``, the
hook is given the gradient of a loss that was computed so.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from lossd import v1
from lossd.client.result import LossResult
from lossd.client.seams._policies import check_taken, taken
from lossd.client.seams._statistics import over_tokens, sums_of
from lossd.client.sync import LossClient
from lossd.client.torch import RemoteLoss

# What TRL calls the further inputs of a loss.
BESIDE: Mapping[str, str] = MappingProxyType(
    {
        "reference_log_probabilities": "ref_per_token_logps",
        "rollout_log_probabilities": "sampling_per_token_logps",
    }
)
# What else the model is given beside the tokens, where there is some of it.
OF_MODEL = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes",
    "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip
# What TRL's own loss does beside that no policy gradient of lossd does, and where it is off.
BEYOND: Mapping[str, Any] = MappingProxyType(
    {
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "_entropy_bonus_enabled": False,
        "aux_loss_enabled": False,
    }
)


def grpo_loss(
    client: str | LossClient, loss: v1.PolicyGradient, **options: Any
) -> Callable[[Any, Any, Mapping[str, Any]], torch.Tensor]:
    """Returns a ``_compute_loss`` for a subclass of ``GRPOTrainer``.

        class Trainer(GRPOTrainer):
            _compute_loss = grpo_loss("localhost:50051", presets.dapo())

    TOKEN_MEAN divides by the tokens of the generation batch, as ``loss_type="dapo"`` does, and the
    others by sequences.  What the loss is asked for beside its value is logged under its name, as a
    mean over tokens: so is what TRL calls ``kl`` and ``entropy``.
    What the trainer is asked for and the loss does not do raises ValueError in a call: an entropy
    bonus, masks by entropy or by how old a sample is, a loss of experts.  Bounds, the KL term and
    the correction of vLLM (``rollout_correction``) are the loss's own, whatever TRL's settings say;
    tokens that vLLM could not score are not corrected, and are left out of ``rollout_gap``.

    Args:
        client: The client that computes, or the address for one.
        loss: A policy gradient, for example of ``presets``.
        options: What else ``RemoteLoss`` takes, as ``nonfinite``.

    Raises:
        ValueError: for the aggregation by groups, which TRL does not tell.
    """
    if loss.aggregation == v1.TOKEN_AGGREGATION_GROUP_MEAN:
        raise ValueError("aggregation must be another than GROUP_MEAN, got GROUP_MEAN")
    criterion = RemoteLoss(over_tokens(loss), client, **options)
    has_entropies = "entropies" in taken(loss)

    def computed(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        _check_trainer(trainer)
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
            **_beside(loss, inputs),
        }
        if entropies is not None:
            given["entropies"] = entropies
        unscored = _fill_unscored(given)
        found: torch.Tensor = criterion(**given, normalizer=_divisor(trainer, loss, inputs))
        _log_means(trainer, criterion.last, unscored)
        return found

    return computed


def _log_means(trainer: Any, result: LossResult[Any] | None, unscored: int) -> None:
    """Adds means over tokens to what a trainer logs; of those unscored no gap is known."""
    mode = "train" if trainer.model.training else "eval"
    for name, (own, count) in sums_of(result).items():
        told = count - unscored if name == "rollout_gap" else count
        total, weight = _of_all(trainer, (own, told))
        if weight:
            trainer._metrics[mode][name].append(total / weight)  # noqa: SLF001 - as its own


def _check_trainer(trainer: Any) -> None:
    """Raises ValueError for what would be left out of the loss in silence."""
    for name, off in BEYOND.items():
        asked = getattr(trainer, name, off)
        if asked != off:
            raise ValueError(
                f"{name.removeprefix('_')} must be {off} with a loss of lossd, which has no such "
                f"term, got {asked}"
            )


def _beside(loss: v1.PolicyGradient, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a loss takes beside from a batch.

    Raises:
        ValueError: for what TRL was not asked to compute.
    """
    there = {name: inputs[theirs] for name, theirs in BESIDE.items() if theirs in inputs}
    where = "TRL computes with another beta than 0, or for its correction of vLLM"
    check_taken(loss, {*there, "entropies"}, where)
    return {name: there[name] for name in taken(loss) if name in there}


def _fill_unscored(given: dict[str, Any]) -> int:
    """Gives tokens that vLLM could not score the trainer's log-probabilities: no correction.

    TRL has NaN for what the sampler had.  Returns how many such tokens count, of which no gap is
    known.
    """
    sampled = given.get("rollout_log_probabilities")
    if sampled is None:
        return 0
    unscored = sampled.isnan()
    filled = torch.where(unscored, given["sampling_log_probabilities"], sampled)
    given["rollout_log_probabilities"] = filled
    return int((unscored & given["token_mask"]).sum())


def _of_all(trainer: Any, sums: tuple[float, float]) -> tuple[float, float]:
    """Returns the sums over all processes, as TRL logs what the main one has."""
    accelerator = trainer.accelerator
    given = torch.tensor(sums, dtype=torch.float32, device=getattr(accelerator, "device", None))
    total, weight = accelerator.reduce(given, reduction="sum").tolist()
    return total, weight


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
        **{name: inputs[name] for name in OF_MODEL if name in inputs},
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
