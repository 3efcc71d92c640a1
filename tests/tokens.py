"""Losses of tokens as messages, and batches of tokens that are drawn."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.serving.wire.parameters import read_parameters
from tests.losses.case import Array

LOGS = "log_probabilities"


def run(engine: Engine, message: Message, inputs: dict[str, Any], **options: Any) -> Result:
    """Computes a message with an engine, without a wire."""
    loss = next(x for x in LOSSES.values() if x.message == message.DESCRIPTOR.name)
    arrays = {name: [np.asarray(array)] for name, array in inputs.items()}
    parameters = read_parameters(loss, message)
    return engine.run(Job(loss=loss, parameters=parameters, inputs=arrays, **options))


def drawn(seed: int, rows: int = 6, length: int = 8) -> dict[str, Array]:
    """Log-probabilities of a policy, its sampler and a reference, advantages, and a mask."""
    rng = np.random.default_rng(seed)
    now = -rng.exponential(1, (rows, length))
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return {
        LOGS: now,
        "sampling_log_probabilities": now + rng.normal(0, 0.3, now.shape),
        "advantages": rng.normal(0, 1, rows),
        "token_mask": mask,
        "reference_log_probabilities": now + rng.normal(0, 0.3, now.shape),
    }


def grpo_trainer(now: Any, **given: Any) -> SimpleNamespace:
    """Makes a trainer for TRL's ``GRPOTrainer._compute_loss``, whose model gives ``now``."""
    torch = pytest.importorskip("torch")
    same = SimpleNamespace(
        num_processes=1, sync_gradients=False, gather=lambda x: x, reduce=lambda x, **_: x
    )
    settings = {
        "_get_per_token_logps_and_entropies": lambda *_, **__: (now, torch.zeros_like(now), None),
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "use_vllm": False,
        "model": SimpleNamespace(training=True),
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": 64,
        "_entropy_bonus_enabled": False,
        "accelerator": same,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "args": SimpleNamespace(
            use_bias_correction_kl=False,
            delta=None,
            steps_per_generation=1,
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
        ),
        "_metrics": defaultdict(lambda: defaultdict(list)),
    }
    return SimpleNamespace(**{**settings, **given})


def grpo_batch(inputs: dict[str, Array]) -> dict[str, Any]:
    """The same batch under TRL's names."""
    torch = pytest.importorskip("torch")
    mask = torch.tensor(inputs["token_mask"]).long()
    return {
        "prompt_ids": mask[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": torch.tensor(inputs["advantages"]),
        "old_per_token_logps": torch.tensor(inputs["sampling_log_probabilities"]),
        "ref_per_token_logps": torch.tensor(inputs["reference_log_probabilities"]),
        "num_items_in_batch": mask.sum(),
    }
