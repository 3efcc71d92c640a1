"""Policy gradients: TRL's GRPO and its relatives."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import presets
from lossd.engine import Engine
from tests.losses.case import Array
from tests.tokens import LOGS, drawn, grpo_batch, grpo_trainer, run

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.oracle
SEQUENCE = {"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.1}


def by_trl(inputs: dict[str, Array], **settings: Any) -> tuple[float, Array]:
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    trainer = grpo_trainer(now, **settings)
    loss = trainers.GRPOTrainer._compute_loss(trainer, None, grpo_batch(inputs))
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.numpy()


def by_lossd(engine: Engine, message: Any, inputs: dict[str, Array]) -> tuple[float, Array]:
    unused = () if message.kl_estimator else ("reference_log_probabilities",)
    found = run(engine, message, {n: a for n, a in inputs.items() if n not in unused})
    return found.loss or 0.0, found.gradients[LOGS]


POLICIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "grpo": (presets.grpo(kl_coefficient=0), {"loss_type": "grpo"}),
    "grpo with a reference": (presets.grpo(), {"loss_type": "grpo", "beta": 0.04}),
    "bnpo": (presets.ppo(), {"loss_type": "bnpo"}),
    "dapo": (presets.dapo(), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": (presets.dr_grpo(length=64), {"loss_type": "dr_grpo"}),
    "cispo": (presets.cispo("trl"), {"loss_type": "cispo", "epsilon_high": 5.0}),
    "sapo": (presets.sapo(), {"loss_type": "sapo"}),
    "gspo": (presets.gspo(low=0.1, high=0.1), {"loss_type": "grpo", **SEQUENCE}),
    "luspo": (presets.luspo(epsilon=0.1), {"loss_type": "luspo", **SEQUENCE}),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_policies_are_trls(engine: Engine, name: str, seed: int) -> None:
    message, settings = POLICIES[name]
    inputs = drawn(seed)
    value, gradient = by_trl(inputs, **settings)
    loss, found = by_lossd(engine, message, inputs)
    assert loss == pytest.approx(value, rel=1e-6)  # it adds up some in float32
    np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-12)


def test_the_delta_of_trl_is_the_dual_clip_of_others(engine: Engine) -> None:
    """Its two-sided clipping bounds the ratio, which tells only where the advantage is negative."""
    inputs = drawn(3)
    inputs["sampling_log_probabilities"] = inputs[LOGS] - np.random.default_rng(4).normal(
        0, 1.5, inputs[LOGS].shape
    )
    args = grpo_trainer(torch.zeros(1)).args
    args.delta = 3.0
    value, gradient = by_trl(inputs, loss_type="bnpo", args=args)
    loss, found = by_lossd(engine, presets.dual_clip_ppo(dual_clip=3.0), inputs)
    assert loss == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-12)
    without = by_lossd(engine, presets.ppo(), inputs)[0]
    assert abs(without - loss) > 1e-3


def test_the_kl_of_trl_may_be_weighted_by_the_ratio_and_lossds_never_is(engine: Engine) -> None:
    """``use_bias_correction_kl``: k3 times the ratio, whose own derivative is added."""
    inputs = drawn(5)
    args = grpo_trainer(torch.zeros(1)).args
    args.use_bias_correction_kl = True
    corrected, _ = by_trl(inputs, loss_type="grpo", beta=0.04, args=args)
    plain, _ = by_trl(inputs, loss_type="grpo", beta=0.04)
    loss, _ = by_lossd(engine, presets.grpo(), inputs)
    assert loss == pytest.approx(plain, rel=1e-6)
    assert abs(corrected - plain) > 1e-6 * abs(plain)


def test_the_ratio_of_trls_rloo_is_that_of_sums_and_not_the_geometric_mean(engine: Engine) -> None:
    """So a sequence is given to lossd as one token that has its sums."""
    trainers = pytest.importorskip("trl.trainer.rloo_trainer", reason="TRL is not installed")
    inputs = drawn(6)
    mask = torch.tensor(inputs["token_mask"]).long()
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    sums = {
        name: (inputs[name] * inputs["token_mask"]).sum(axis=1, keepdims=True)
        for name in (LOGS, "sampling_log_probabilities")
    }
    given = {
        "prompt_ids": mask[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": torch.tensor(inputs["advantages"]),
        "old_logps": torch.tensor(sums["sampling_log_probabilities"][:, 0]),
    }
    loss = trainers.RLOOTrainer._compute_loss(grpo_trainer(now), None, given)
    loss.backward()
    found = run(engine, presets.ppo(), {**sums, "advantages": inputs["advantages"]})
    assert found.loss == pytest.approx(loss.item(), rel=1e-12)
    assert now.grad is not None
    spread = found.gradients[LOGS] * inputs["token_mask"]
    np.testing.assert_allclose(spread, now.grad.numpy(), rtol=1e-12, atol=1e-15)
    message = presets.ppo()
    message.ratio = v1.POLICY_RATIO_SEQUENCE
    message.aggregation = v1.TOKEN_AGGREGATION_SEQUENCE_MEAN
    inputs.pop("reference_log_probabilities")
    assert abs((run(engine, message, inputs).loss or 0) - loss.item()) > 1e-3


def test_trl_counts_empty_sequences_as_lossd_does(engine: Engine) -> None:
    """Both divide by all sequences, also by those without a token that counts."""
    inputs = drawn(7)
    inputs["token_mask"][2] = False
    value, gradient = by_trl(inputs, loss_type="grpo")
    loss, found = by_lossd(engine, presets.grpo(kl_coefficient=0), inputs)
    assert loss == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-12)


def test_an_infinite_ratio_without_advantage_is_nan_in_trl_and_0_here(engine: Engine) -> None:
    inputs = drawn(8, rows=2)
    inputs["advantages"] = np.array([0.0, 1.0])
    inputs["token_mask"][:] = True
    inputs["sampling_log_probabilities"][0, 0] = inputs[LOGS][0, 0] - 1000
    value, gradient = by_trl(inputs, loss_type="grpo")
    assert np.isnan(value)
    assert np.isnan(gradient[0, 0])
    loss, found = by_lossd(engine, presets.grpo(kl_coefficient=0), inputs)
    assert np.isfinite(loss)
    assert not found[0].any()


def test_what_trl_logs_of_clipping_lossd_returns(engine: Engine) -> None:
    inputs = drawn(9)
    pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    trainer = grpo_trainer(now, loss_type="bnpo")
    _compute(trainer, inputs)
    message = presets.ppo()
    message.outputs.extend(
        [v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION, v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT]
    )
    inputs.pop("reference_log_probabilities")
    found = run(engine, message, inputs).outputs
    counts = found["token_count"]
    logged = trainer._metrics["train"]["clip_ratio/region_mean"][0]
    share = (found["clip_fraction"] * counts).sum() / counts.sum()
    assert share == pytest.approx(logged, rel=1e-6)


def _compute(trainer: SimpleNamespace, inputs: dict[str, Array]) -> None:
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    trainers.GRPOTrainer._compute_loss(trainer, None, grpo_batch(inputs))
