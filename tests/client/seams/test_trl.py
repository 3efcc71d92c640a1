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


def test_numbers_under_trls_names_are_trls_means_over_tokens(client: LossClient) -> None:
    """However long each sequence is."""
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    seam = pytest.importorskip("lossd.client.seams.trl")
    message = presets.grpo()
    message.outputs.extend([v1.POLICY_GRADIENT_OUTPUT_KL, v1.POLICY_GRADIENT_OUTPUT_ENTROPY])
    inputs = drawn(11)
    now = torch.tensor(inputs[LOGS])
    entropies = torch.tensor(np.random.default_rng(11).exponential(1, now.shape))
    logged = []
    for compute in (trainers.GRPOTrainer._compute_loss, seam.grpo_loss(client, message)):
        trainer = trainer_of(now, loss_type="grpo", beta=0.04)
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (now, entropies, None)
        compute(trainer, None, grpo_batch(inputs))
        logged.append(trainer._metrics["train"])
    theirs, mine = logged
    assert set(mine) == {"kl", "entropy"}
    for name in mine:
        assert mine[name] == [pytest.approx(theirs[name][0], rel=1e-6)], name


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


def with_lossd(client: LossClient, message: v1.PolicyGradient, trainer: Any, batch: Any) -> Any:
    seam = pytest.importorskip("lossd.client.seams.trl")
    return seam.grpo_loss(client, message)(trainer, None, batch)


def test_a_model_of_images_is_given_them(client: LossClient) -> None:
    """All that TRL's own loss gives the model, and not its tokens alone."""
    now, seen = torch.tensor(drawn(5)[LOGS]), {}

    def model(*_: Any, **given: Any) -> Any:
        seen.update(given)
        return now, torch.zeros_like(now), None

    images = {"pixel_values": torch.ones(6, 3), "num_images": [1] * 6, "token_type_ids": now}
    trainer = trainer_of(now, _get_per_token_logps_and_entropies=model, loss_type="dapo")
    batch = {**grpo_batch(drawn(5)), **images}
    with_lossd(client, presets.dapo(), trainer, batch)
    found = {name: seen.get(name) for name in images}
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    seen.clear()
    trainers.GRPOTrainer._compute_loss(trainer, None, batch)
    assert found == {name: seen[name] for name in images}


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile must be 1.0 .* got 0.2"),
        ({"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold must be None"),
        ({"_entropy_bonus_enabled": True}, "entropy_bonus_enabled must be False"),
        ({"aux_loss_enabled": True}, "aux_loss_enabled must be False"),
    ],
)
def test_what_a_trainer_asks_for_is_not_dropped_in_silence(
    client: LossClient, setting: dict[str, Any], rule: str
) -> None:
    trainer = trainer_of(torch.tensor(drawn(6)[LOGS]), **setting)
    with pytest.raises(ValueError, match=rule):
        with_lossd(client, presets.dapo(), trainer, grpo_batch(drawn(6)))


def test_a_term_without_its_log_probabilities_is_refused_by_name(client: LossClient) -> None:
    """TRL has no reference with a beta of 0, which is its default."""
    trainer, batch = trainer_of(torch.tensor(drawn(7)[LOGS])), grpo_batch(drawn(7))
    del batch["ref_per_token_logps"]
    with pytest.raises(ValueError, match=r"kl_estimator must ask for no reference_.* got K3"):
        with_lossd(client, presets.grpo(), trainer, batch)
    gap = presets.dapo()
    gap.outputs.append(v1.POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP)
    with pytest.raises(ValueError, match=r"outputs must ask for no rollout_.* got ROLLOUT_GAP"):
        with_lossd(client, gap, trainer, batch)
    batch["sampling_per_token_logps"] = batch["old_per_token_logps"] - 0.25
    with_lossd(client, gap, trainer, batch)
    assert trainer._metrics["train"]["rollout_gap"] == [pytest.approx(0.25, rel=1e-6)]


def test_no_estimator_and_none_are_the_same(client: LossClient) -> None:
    inputs = drawn(8)
    found = []
    for estimator in (None, v1.KL_ESTIMATOR_NONE):
        message = presets.dapo()
        message.rollout_correction = v1.ROLLOUT_CORRECTION_NONE
        if estimator:
            message.kl_estimator = estimator
        trainer, batch = trainer_of(torch.tensor(inputs[LOGS])), grpo_batch(inputs)
        del batch["ref_per_token_logps"]
        found.append(with_lossd(client, message, trainer, batch).item())
    assert found[0] == found[1]


def test_what_is_logged_is_of_all_processes(client: LossClient) -> None:
    """As TRL's own numbers: the main process logs, and the others have other lengths."""
    message = presets.ppo()
    message.outputs.extend(
        [v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION, v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT]
    )
    parts, sent = [drawn(9), drawn(10, rows=3)], []

    def reduce(given: Any, **_: Any) -> Any:
        sent.append(given)
        return sum(sent)

    for inputs in parts:
        noise = np.random.default_rng(1).normal(0, 0.5, inputs[LOGS].shape)
        inputs["sampling_log_probabilities"] = inputs[LOGS] - noise
        trainer = trainer_of(torch.tensor(inputs[LOGS]))
        trainer.accelerator.reduce = reduce
        with_lossd(client, message, trainer, grpo_batch(inputs))
    known: list[dict[str, Any]] = [
        {name: one[name] for name in one if "reference" not in name} for one in parts
    ]
    whole = [client.compute(message, **one) for one in known]
    shares, counts = (
        np.concatenate([one.outputs[name] for one in whole])
        for name in ("clip_fraction", "token_count")
    )
    expected = (shares * counts).sum() / counts.sum()
    assert trainer._metrics["train"]["clip_fraction"] == [pytest.approx(expected, rel=1e-6)]


def test_tokens_that_vllm_could_not_score_are_not_corrected(client: LossClient) -> None:
    """TRL has NaN for their log-probabilities, a ratio of 1, and tells the gap of the others."""
    trainers = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    seam = pytest.importorskip("lossd.client.seams.trl")
    message = presets.dapo()
    message.rollout_correction = v1.ROLLOUT_CORRECTION_TOKEN_TRUNCATE
    message.rollout_high = 1.5
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP)
    inputs = drawn(12)
    batch, mask = grpo_batch(inputs), torch.tensor(inputs["token_mask"])
    gap = torch.tensor(np.random.default_rng(12).normal(0, 0.5, mask.shape))
    gap[0, 0] = gap[3, :2] = torch.nan
    batch["sampling_per_token_logps"] = batch["old_per_token_logps"] - gap
    # As TRL computes it when it has sampled.
    batch["importance_sampling_ratio"] = gap.nan_to_num(nan=0.0).exp().clamp(max=1.5)
    settings = {"loss_type": "dapo", "epsilon_high": 0.28, "use_vllm": True}
    found = []
    for compute in (trainers.GRPOTrainer._compute_loss, seam.grpo_loss(client, message)):
        now = torch.tensor(inputs[LOGS], requires_grad=True)
        correction = {"vllm_importance_sampling_correction": True}
        trainer = trainer_of(now, **settings, **correction)
        loss = compute(trainer, None, batch)
        loss.backward()
        assert now.grad is not None
        found.append((loss.item(), now.grad.numpy()))
    (theirs, expected), (mine, gradient) = found
    assert mine == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-12)
    known = gap.abs()[mask & ~gap.isnan()].mean().item()
    assert trainer._metrics["train"]["rollout_gap"] == [pytest.approx(known, rel=1e-6)]
