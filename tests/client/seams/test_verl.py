"""verl's registry of policy losses with one of lossd's."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import LossClient, presets
from tests.losses.case import Array
from tests.tokens import LOGS, drawn

torch = pytest.importorskip("torch")

MODES = (
    "token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean",
    "seq-mean-token-sum-norm",
)  # fmt: skip
WHOLE = {"dp_size": 2, "batch_num_tokens": 77, "global_batch_size": 13, "loss_scale_factor": 64}
ALONE = {"loss_scale_factor": 64}


class Config(SimpleNamespace):
    """The numbers of an actor that a loss of verl reads."""

    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)


def config(batch: dict[str, Any]) -> Config:
    return Config(
        clip_ratio=0.2, clip_ratio_low=None, clip_ratio_high=None, clip_ratio_c=3.0,
        global_batch_info=batch,
    )  # fmt: skip


def given(seed: int) -> dict[str, Array]:
    inputs = drawn(seed)
    then = inputs[LOGS] - np.random.default_rng(seed).normal(0, 1, inputs[LOGS].shape)
    inputs["sampling_log_probabilities"] = then
    inputs["token_mask"][2] = False  # verl leaves a sequence without tokens out of its means
    return inputs


def computed(compute: Any, inputs: dict[str, Array], mode: str, batch: dict[str, Any]) -> Any:
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    advantages = np.broadcast_to(inputs["advantages"][:, None], now.shape)
    loss, metrics = compute(
        old_log_prob=torch.tensor(inputs["sampling_log_probabilities"]),
        log_prob=now,
        advantages=torch.tensor(advantages.copy()),
        response_mask=torch.tensor(inputs["token_mask"]),
        loss_agg_mode=mode,
        config=config(batch),
        rollout_is_weights=torch.tensor(inputs["token_weights"]),
    )
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.numpy(), metrics


def registry() -> Any:
    pytest.importorskip("ray", reason="verl is not installed")
    return pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl is not installed")


def seam() -> Any:
    return pytest.importorskip("lossd.client.seams.verl")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [WHOLE, ALONE], ids=["of two", "alone"])
@pytest.mark.parametrize("mode", MODES)
def test_a_registered_loss_is_verls_own(
    client: LossClient, mode: str, batch: dict[str, Any]
) -> None:
    verl = registry()
    message = presets.dual_clip_ppo()
    message.outputs.extend(
        [
            v1.POLICY_GRADIENT_OUTPUT_SAMPLING_KL,
            v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT,
        ]
    )
    verl.register_policy_loss("lossd")(seam().policy_loss(client, message))
    inputs = given(1)
    inputs["token_weights"] = np.random.default_rng(2).exponential(1, inputs[LOGS].shape)
    value, expected, theirs = computed(verl.get_policy_loss_fn("vanilla"), inputs, mode, batch)
    mine, found, metrics = computed(verl.get_policy_loss_fn("lossd"), inputs, mode, batch)
    assert mine == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert metrics["actor/ppo_kl"] == pytest.approx(theirs["actor/ppo_kl"], rel=1e-6)
    # The control: the same with a turned sign is another.
    turned = {**inputs, "advantages": -inputs["advantages"]}
    _, other, _ = computed(verl.get_policy_loss_fn("lossd"), turned, mode, batch)
    assert not np.allclose(other, expected, rtol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_mean_of_sequence_means_leaves_empty_ones_out_in_verl_and_counts_them_here(
    client: LossClient,
) -> None:
    verl = registry()
    inputs = given(3)
    inputs["token_weights"] = np.ones(inputs[LOGS].shape)
    inputs.pop("reference_log_probabilities", None)
    value, expected, _ = computed(
        verl.get_policy_loss_fn("vanilla"), inputs, "seq-mean-token-mean", ALONE
    )
    message = presets.dual_clip_ppo()
    message.aggregation = v1.TOKEN_AGGREGATION_SEQUENCE_MEAN
    sent: dict[str, Any] = dict(inputs)
    result = client.compute(message, **sent)
    rows = len(inputs[LOGS])
    assert result.loss * rows / (rows - 1) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(
        result.gradients[LOGS] * rows / (rows - 1), expected, rtol=1e-6, atol=1e-12
    )
    # Masked, it is left out here too.
    mask = inputs["token_mask"].any(axis=1)
    left_out = client.compute(message, **sent, mask=mask)
    assert left_out.loss == pytest.approx(value, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_verl_holds_log_ratios_within_20_and_lossd_does_not(client: LossClient) -> None:
    """Beyond, verl's gradient is 0 and its value exp(20)."""
    verl = registry()
    message = presets.importance_sampling()
    message.objective = v1.POLICY_OBJECTIVE_PPO_CLIP
    message.clip_low, message.clip_high = 0.8, 1.2
    inputs = {
        LOGS: np.array([[-1.0]]),
        "sampling_log_probabilities": np.array([[-24.0]]),
        "advantages": np.array([-1.0]),
        "token_mask": np.array([[True]]),
        "token_weights": np.array([[1.0]]),
    }
    settings = config(ALONE)
    settings.clip_ratio_c = 1e30
    compute = verl.get_policy_loss_fn("vanilla")
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    loss, _ = compute(
        torch.tensor([[-24.0]]).double(), now, torch.tensor([[-1.0]]).double(),
        torch.tensor([[True]]), "token-mean", settings,
    )  # fmt: skip
    loss.backward()
    mine, found, _ = computed(seam().policy_loss(client, message), inputs, "token-mean", ALONE)
    assert loss.item() == pytest.approx(np.exp(20), rel=1e-6)
    assert mine == pytest.approx(np.exp(23), rel=1e-6)
    assert now.grad is not None
    assert not now.grad.any()
    assert found[0, 0] == pytest.approx(np.exp(23), rel=1e-6)


def test_micro_batches_add_up_to_the_whole(client: LossClient) -> None:
    """Without the package: with verl's own counts every mode is split as the others are."""
    compute = seam().policy_loss(client, presets.dual_clip_ppo())
    inputs = given(3)
    inputs["token_weights"] = np.ones(inputs[LOGS].shape)
    inputs.pop("reference_log_probabilities", None)
    inputs["token_weights"] = np.ones(inputs[LOGS].shape)
    inputs.pop("reference_log_probabilities", None)
    tokens, rows = inputs["token_mask"].sum(), inputs["token_mask"].any(axis=1).sum()
    batch = {"batch_num_tokens": tokens, "global_batch_size": rows, "loss_scale_factor": 64}
    for mode in MODES:
        whole, expected, _ = computed(compute, inputs, mode, batch)
        parts = [
            computed(compute, {n: a[part] for n, a in inputs.items()}, mode, batch)
            for part in (slice(0, 2), slice(2, None))
        ]
        assert sum(part[0] for part in parts) == pytest.approx(whole, rel=1e-12)
        found = np.concatenate([part[1] for part in parts])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
        alone, _, _ = computed(compute, inputs, mode, ALONE)
        assert alone == pytest.approx(whole, rel=1e-12)


def ratios_of(inputs: dict[str, Array]) -> tuple[Array, Array]:
    """The ratios and the advantages of the tokens that count, of all sequences together."""
    ratios = np.exp(inputs[LOGS] - inputs["sampling_log_probabilities"])
    advantages = np.broadcast_to(inputs["advantages"][:, None], ratios.shape)
    return ratios[inputs["token_mask"]], advantages[inputs["token_mask"]]


def told(client: LossClient, message: v1.PolicyGradient, mode: str = "token-mean") -> Any:
    inputs = given(6)
    inputs["token_weights"] = np.ones(inputs[LOGS].shape)
    _, _, metrics = computed(seam().policy_loss(client, message), inputs, mode, ALONE)
    return metrics


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("message", [presets.ppo(), presets.cispo("verl")], ids=["ppo", "cispo"])
def test_numbers_under_verls_names_are_verls_means_over_tokens(
    client: LossClient, message: v1.PolicyGradient, mode: str
) -> None:
    """However long each sequence is, and whatever else was asked for."""
    asked = v1.PolicyGradient()
    asked.CopyFrom(message)
    asked.outputs.extend(
        [v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION, v1.POLICY_GRADIENT_OUTPUT_SAMPLING_KL]
    )
    ratios, advantages = ratios_of(given(6))
    held = np.clip(ratios, 0.8, 1.2)
    is_cispo = message.objective == v1.POLICY_OBJECTIVE_CISPO
    clipped = held != ratios if is_cispo else -advantages * held > -advantages * ratios
    assert told(client, asked, mode) == {
        "actor/pg_clipfrac": pytest.approx(clipped.mean(), rel=1e-12),
        "actor/ppo_kl": pytest.approx(-np.log(ratios).mean(), rel=1e-12),
    }


def test_a_clip_fraction_that_holds_what_verl_tells_apart_has_its_own_name(
    client: LossClient,
) -> None:
    message = presets.dual_clip_ppo()
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION)
    ratios, advantages = ratios_of(given(6))
    one, two, three = (-advantages * r for r in (ratios, np.clip(ratios, 0.8, 1.2), 3.0))
    clipped, lower = two > one, (np.maximum(one, two) > three) & (advantages < 0)
    assert lower.any()
    assert told(client, message) == {
        "actor/clip_fraction": pytest.approx(clipped.mean() + lower.mean(), rel=1e-12)
    }


def test_dppo_counts_no_token_without_an_advantage_and_verl_does(client: LossClient) -> None:
    inputs = {**given(7), "token_weights": np.ones((6, 8)), "advantages": np.zeros(6)}
    message = presets.dppo("tv", threshold=0.1)
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION)
    _, _, metrics = computed(seam().policy_loss(client, message), inputs, "token-mean", ALONE)
    apart = np.exp(inputs[LOGS]) - np.exp(inputs["sampling_log_probabilities"])
    assert (apart < -message.divergence_threshold)[inputs["token_mask"]].any()  # are verl's
    assert metrics == {"actor/clip_fraction": 0.0}


def test_an_address_gets_one_client_for_all_steps(
    client: LossClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(address: str) -> LossClient:
        made.append(address)
        return client

    monkeypatch.setattr("lossd.client.reaching.LossClient", make)
    compute = seam().policy_loss("localhost:1", presets.ppo())
    inputs = {**given(4), "token_weights": np.ones((6, 8))}
    for _ in range(3):
        computed(compute, inputs, "token-mean", ALONE)
    assert made == ["localhost:1"]


def test_what_would_depend_on_the_micro_batch_is_refused(client: LossClient) -> None:
    compute = seam().policy_loss(client, presets.ppo())
    inputs = {**given(4), "token_weights": np.ones((6, 8))}
    for mode, batch, rule in (
        ("seq-mean-token-sum-norm", {}, "loss_scale_factor must be given"),
        ("token-mean", {"dp_size": 2}, "batch_num_tokens must be given with 2 processes"),
        ("seq-mean-token-sum", {"dp_size": 2}, "global_batch_size must be given with 2 processes"),
        ("token-median", {}, "loss_agg_mode must be one of"),
    ):
        with pytest.raises(ValueError, match=rule):
            computed(compute, inputs, mode, batch)


def test_a_loss_that_takes_what_verl_does_not_give_is_refused() -> None:
    corrected, entropy = presets.ppo(), presets.ppo()
    corrected.rollout_correction = v1.ROLLOUT_CORRECTION_TOKEN_MASK
    entropy.outputs.append(v1.POLICY_GRADIENT_OUTPUT_ENTROPY)
    for message, rule in (
        (presets.grpo(), "kl_estimator must ask for no reference_log_probabilities, .* got K3"),
        (corrected, "rollout_correction must ask for no .* got TOKEN_MASK"),
        (entropy, "outputs must ask for no entropies, .* got ENTROPY"),
    ):
        with pytest.raises(ValueError, match=rule):
            seam().policy_loss("localhost:1", message)
