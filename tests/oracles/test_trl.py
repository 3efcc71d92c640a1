"""Against TRL itself, where it is installed: the same numbers, and a name for what differs.

The trainers' own methods are run on log-probabilities, without a model.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.client import presets
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.serving.wire.parameters import read_parameters
from tests.losses.case import Array

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
LOGS = "log_probabilities"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(NumpyBackend(1))
    yield made
    made.close()


def run(engine: Engine, message: Any, inputs: dict[str, Any], **options: Any) -> Result:
    loss = next(x for x in LOSSES.values() if x.message == message.DESCRIPTOR.name)
    arrays = {name: [np.asarray(array)] for name, array in inputs.items()}
    parameters = read_parameters(loss, message)
    return engine.run(Job(loss=loss, parameters=parameters, inputs=arrays, **options))


def drawn(seed: int, rows: int = 6, length: int = 8) -> dict[str, Array]:
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


# ------------------------------------------------------------------ policy gradients


def _trainer(now: Any, **given: Any) -> Any:
    """The parts of a trainer that ``_compute_loss`` asks for."""
    same = SimpleNamespace(
        num_processes=1,
        sync_gradients=False,
        gather=lambda x: x,
        reduce=lambda x, **_: x,
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
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
        ),
        "_metrics": defaultdict(lambda: defaultdict(list)),
    }
    return SimpleNamespace(**{**settings, **given})


def by_trl(inputs: dict[str, Array], **settings: Any) -> tuple[float, Array]:
    trainers = pytest.importorskip("trl.trainer.grpo_trainer")
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    mask = torch.tensor(inputs["token_mask"]).long()
    given = {
        "prompt_ids": mask[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": torch.tensor(inputs["advantages"]),
        "old_per_token_logps": torch.tensor(inputs["sampling_log_probabilities"]),
        "ref_per_token_logps": torch.tensor(inputs["reference_log_probabilities"]),
        "num_items_in_batch": mask.sum(),
    }
    loss = trainers.GRPOTrainer._compute_loss(_trainer(now, **settings), None, given)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.numpy()


POLICIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "grpo": (presets.grpo(kl_coefficient=0), {"loss_type": "grpo"}),
    "grpo with a reference": (presets.grpo(), {"loss_type": "grpo", "beta": 0.04}),
    "bnpo": (presets.ppo(), {"loss_type": "bnpo"}),
    "dapo": (presets.dapo(), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": (presets.dr_grpo(length=64), {"loss_type": "dr_grpo"}),
    "cispo": (presets.cispo("trl"), {"loss_type": "cispo", "epsilon_high": 5.0}),
    "sapo": (presets.sapo(), {"loss_type": "sapo"}),
    "gspo": (
        presets.gspo(low=0.1, high=0.1),
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.1,
            "epsilon_high": 0.1,
        },
    ),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_policies_are_trls(engine: Engine, name: str, seed: int) -> None:
    message, settings = POLICIES[name]
    inputs = drawn(seed)
    value, gradient = by_trl(inputs, **settings)
    if not message.kl_estimator:
        inputs.pop("reference_log_probabilities")
    found = run(engine, message, inputs)
    assert found.loss == pytest.approx(value, rel=1e-6)  # it adds up some in float32
    np.testing.assert_allclose(found.gradients[LOGS], gradient, rtol=1e-6, atol=1e-12)


# ------------------------------------------------------------------ preferences


def _sums(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return -rng.exponential(2, 7), -rng.exponential(2, 7)


@pytest.mark.parametrize("kind", ["simpo", "sigmoid"])
def test_simpo_and_the_preferences_of_cpo_are_trls(engine: Engine, kind: str) -> None:
    trainers = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    chosen, rejected = _sums(3)
    own = SimpleNamespace(
        alpha=0.0, loss_type=kind, beta=2.0, simpo_gamma=0.5, label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    tensors = [torch.tensor(x, requires_grad=True) for x in (chosen, rejected)]
    costs = trainers.CPOTrainer.cpo_loss(own, *tensors)[0]
    costs.mean().backward()
    message = {
        "simpo": presets.simpo(beta=2.0, gamma=0.5),
        "sigmoid": presets.cpo(beta=2.0, likelihood_weight=0),
    }[kind]
    lengths = np.ones(7, np.int64)
    found = run(
        engine,
        message,
        {
            "chosen_log_probabilities": chosen, "rejected_log_probabilities": rejected,
            "chosen_lengths": lengths, "rejected_lengths": lengths,
        },
    )  # fmt: skip
    assert found.loss == pytest.approx(costs.mean().item(), rel=1e-12)
    for name, tensor in zip(("chosen", "rejected"), tensors, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(
            found.gradients[f"{name}_log_probabilities"], tensor.grad.numpy(), rtol=1e-11
        )


def test_the_odds_ratio_of_orpo_is_trls(engine: Engine) -> None:
    trainers = pytest.importorskip("trl.experimental.orpo.orpo_trainer")
    chosen, rejected = _sums(4)
    own = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    given = [torch.tensor(x) for x in (chosen, rejected)]
    ratios = trainers.ORPOTrainer.odds_ratio_loss(own, *given)[0].numpy()
    lengths = np.ones(7, np.int64)
    found = run(
        engine,
        presets.orpo(),
        {
            "chosen_log_probabilities": chosen, "rejected_log_probabilities": rejected,
            "chosen_lengths": lengths, "rejected_lengths": lengths,
        },
    )  # fmt: skip
    assert found.per_example is not None
    np.testing.assert_allclose(found.per_example, -chosen - ratios, rtol=1e-5)


# ------------------------------------------------------------------ distillation


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_generalized_distillation_is_trls(engine: Engine, beta: float) -> None:
    trainers = pytest.importorskip("trl.experimental.gkd.gkd_trainer")
    student, teacher = np.random.default_rng(5).normal(0, 2, (2, 3, 4, 6))
    tensor = torch.tensor(student, requires_grad=True)
    loss = trainers.GKDTrainer.generalized_jsd_loss(tensor, torch.tensor(teacher), beta=beta)
    loss.backward()
    found = run(engine, presets.gkd("trl", beta=beta), {"predictions": student, "targets": teacher})
    tokens = 4  # its "batchmean" divides by the sequences and not by their tokens
    assert (found.loss or 0) * tokens == pytest.approx(loss.item(), rel=1e-12)
    assert tensor.grad is not None
    np.testing.assert_allclose(
        found.gradients["predictions"] * tokens, tensor.grad.numpy(), rtol=1e-9, atol=1e-14
    )


def test_trls_distillation_jumps_at_the_ends_of_beta_and_the_interpolated_one_does_not(
    engine: Engine,
) -> None:
    given = dict(
        zip(
            ("predictions", "targets"),
            np.random.default_rng(6).normal(0, 2, (2, 3, 4, 6)),
            strict=True,
        )
    )

    def of(dialect: Any, beta: float) -> float:
        return run(engine, presets.gkd(dialect, beta=beta), given).loss or 0.0

    for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        assert abs(of("trl", end) - of("trl", near)) > 0.1
        assert of("interpolated", end) == pytest.approx(of("interpolated", near), rel=1e-6)
