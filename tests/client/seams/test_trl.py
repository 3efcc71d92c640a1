"""TRL's trainer with lossd's loss in place of its own."""

from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import LossClient, presets
from tests.losses.case import Array
from tests.tokens import LOGS, drawn, grpo_batch, grpo_trainer

torch = pytest.importorskip("torch")

LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "grpo": (presets.grpo(), {"loss_type": "grpo", "beta": 0.04}),
    "dapo": (presets.dapo(), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": (presets.dr_grpo(length=64), {"loss_type": "dr_grpo"}),
    "cispo": (presets.cispo("trl"), {"loss_type": "cispo", "epsilon_high": 5.0}),
}
# Half of a generation batch, one of two steps of accumulation.
STEPS = {"current_gradient_accumulation_steps": 2}


def trainer_of(now: Any, **settings: Any) -> Any:
    made = grpo_trainer(now, **STEPS, **settings)
    made.args.steps_per_generation = 2
    return made


def both(client: LossClient, name: str, inputs: dict[str, Array]) -> list[tuple[float, Array]]:
    """TRL's own loss and gradient, and lossd's in its place."""
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    seam = pytest.importorskip("lossd.client.seams.trl")
    message, settings = LOSSES[name]
    found = []
    for compute in (trainers.GRPOTrainer._compute_loss, seam.grpo_loss(client, message)):
        now = torch.tensor(inputs[LOGS], requires_grad=True)
        batch = grpo_batch(inputs)
        batch["num_items_in_batch"] = batch["num_items_in_batch"] * 2 + 3
        loss = compute(trainer_of(now, **settings), None, batch)
        loss.backward()
        assert now.grad is not None
        found.append((loss.item(), now.grad.numpy()))
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_the_trainer_has_the_loss_and_the_gradient_of_its_own(
    client: LossClient, name: str
) -> None:
    (theirs, expected), (mine, found) = both(client, name, drawn(1))
    assert mine == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_a_negated_advantage_turns_the_gradient_round(client: LossClient) -> None:
    """The control: what the other tests compare would not stay the same under a turned sign."""
    inputs = drawn(2)
    (_, expected), _ = both(client, "cispo", inputs)
    _, (_, found) = both(client, "cispo", {**inputs, "advantages": -inputs["advantages"]})
    np.testing.assert_allclose(found, -expected, rtol=1e-6, atol=1e-12)


def test_what_is_asked_of_the_loss_is_logged(client: LossClient) -> None:
    seam = pytest.importorskip("lossd.client.seams.trl")
    message = presets.dapo()
    message.outputs.extend(
        [
            v1.POLICY_GRADIENT_OUTPUT_RATIO_P95,
            v1.POLICY_GRADIENT_OUTPUT_ENTROPY,
            v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT,
        ]
    )
    now = torch.tensor(drawn(3)[LOGS])
    trainer = trainer_of(now)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (now, torch.full_like(now, 2.0))
    seam.grpo_loss(client, message)(trainer, None, grpo_batch(drawn(3)))
    logged = trainer._metrics["train"]
    assert set(logged) == {"ratio_p95", "entropy"}
    assert logged["entropy"] == [2.0]


def test_groups_are_refused_since_trl_does_not_tell_them() -> None:
    seam = pytest.importorskip("lossd.client.seams.trl")
    with pytest.raises(ValueError, match="aggregation must be another than GROUP_MEAN"):
        seam.grpo_loss("localhost:1", presets.dapo_by_prompt())


def test_a_hook_on_log_probabilities_is_given_the_gradient(client: LossClient) -> None:
    """As in TRL's protocol of training clients, where the hook sends it to the model."""
    seam = pytest.importorskip("lossd.client.seams.trl")
    inputs = drawn(4)
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    sent: list[Any] = []
    given = now * 1.0  # what a remote model returned
    given.register_hook(sent.append)
    seam.grpo_loss(client, presets.dapo())(trainer_of(given), None, grpo_batch(inputs)).backward()
    assert now.grad is not None
    assert torch.equal(sent[0], now.grad)
    assert now.grad.any()
