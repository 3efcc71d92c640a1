"""SkyRL's registry of policy losses with one of lossd's."""

import typing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import LossClient, presets
from tests.losses.case import Array
from tests.tokens import LOGS, drawn

torch = pytest.importorskip("torch")


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SkyRL's module of losses; on Python 3.11 its settings need another TypedDict."""
    extensions = pytest.importorskip("typing_extensions")
    monkeypatch.setattr(typing, "TypedDict", extensions.TypedDict)
    name = "skyrl.backends.skyrl_train.utils.ppo_utils"
    return pytest.importorskip(name, reason="SkyRL is not installed", exc_type=ImportError)


CONFIG = SimpleNamespace(
    policy_loss_type="regular",
    eps_clip_low=0.2,
    eps_clip_high=0.28,
    clip_ratio_c=3.0,
    cispo=SimpleNamespace(cispo_eps_clip_low=1.0, cispo_eps_clip_high=4.0),
    off_policy_correction=SimpleNamespace(
        tis_ratio_type=None, sequence_mask_metric=None, outlier_token_is_threshold_low=None,
        outlier_token_is_threshold_high=None, token_mask_is_threshold_low=None,
        token_mask_is_threshold_high=None,
    ),
)  # fmt: skip


def computed(compute: Any, inputs: dict[str, Array], advantages: Any) -> Any:
    now = torch.tensor(inputs[LOGS], requires_grad=True)
    mask = torch.tensor(inputs["token_mask"]).double()
    then = torch.tensor(inputs["sampling_log_probabilities"])
    loss, metrics = compute(now, then, advantages, config=CONFIG, loss_mask=mask)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.numpy(), metrics


def given(seed: int) -> dict[str, Array]:
    inputs = drawn(seed)
    noise = np.random.default_rng(seed).normal(0, 1, inputs[LOGS].shape)
    return {**inputs, "sampling_log_probabilities": inputs[LOGS] - noise}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "message"),
    [("regular", presets.dapo()), ("cispo", presets.cispo("skyrl-train"))],
)
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "seq_mean_token_sum_norm"])
def test_a_registered_loss_is_skyrls_own(
    client: LossClient, losses: Any, name: str, message: v1.PolicyGradient, reduction: str
) -> None:
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    losses.PolicyLossRegistry.repopulate_registry()
    if "lossd" in losses.PolicyLossRegistry.list_available():
        losses.PolicyLossRegistry.unregister("lossd")
    losses.PolicyLossRegistry.register("lossd", seam.policy_loss(client, message))
    inputs = given(1)
    mask = torch.tensor(inputs["token_mask"]).double()
    divided = losses.apply_loss_reduction_to_advantages_minibatch(
        torch.tensor(np.broadcast_to(inputs["advantages"][:, None], mask.shape).copy()),
        mask, reduction, 2, 64,
    )  # fmt: skip
    theirs = computed(losses.PolicyLossRegistry.get(name), inputs, divided)
    mine = computed(losses.PolicyLossRegistry.get("lossd"), inputs, divided)
    assert mine[0] == pytest.approx(theirs[0], rel=1e-6)
    np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-6, atol=1e-12)
    # The control: the same with a turned sign is another.
    turned = computed(losses.PolicyLossRegistry.get("lossd"), inputs, -divided)
    assert not np.allclose(turned[1], theirs[1], rtol=1e-2)


def test_a_loss_that_would_not_be_divided_is_refused() -> None:
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    for message in (presets.dro("tuft"), presets.grpo()):
        with pytest.raises(ValueError, match="loss must be proportional to the advantage"):
            seam.policy_loss("localhost:1", message)


def test_the_sum_of_divided_advantages_is_the_mean(client: LossClient) -> None:
    """Without the package: what SkyRL divides beforehand is divided once."""
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    inputs = given(2)
    tokens = inputs["token_mask"].sum()
    divided = torch.tensor(np.broadcast_to(inputs["advantages"][:, None], (6, 8)) / tokens)
    message = presets.dapo()
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION)
    loss, _, metrics = computed(seam.policy_loss(client, message), inputs, divided)
    options: dict[str, Any] = dict(inputs)
    options.pop("reference_log_probabilities")
    whole = client.compute(presets.dapo(), **options)
    assert loss == pytest.approx(whole.loss, rel=1e-12)
    assert set(metrics) == {"clip_ratio"}


@pytest.mark.parametrize(
    ("message", "name"),
    [(presets.ppo(), "clip_ratio"), (presets.dual_clip_ppo(), "clip_fraction")],
    ids=["ppo", "dual clip"],
)
def test_a_clip_ratio_is_skyrls_mean_over_tokens_and_any_other_has_another_name(
    client: LossClient, message: v1.PolicyGradient, name: str
) -> None:
    """However long each sequence is; SkyRL leaves what a dual clip bounds out."""
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    asked = v1.PolicyGradient()
    asked.CopyFrom(message)
    asked.outputs.append(v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION)
    inputs = given(6)
    mask = inputs["token_mask"]
    ratios = np.exp(inputs[LOGS] - inputs["sampling_log_probabilities"])
    advantages = np.broadcast_to(inputs["advantages"][:, None], mask.shape)
    _, _, metrics = computed(
        seam.policy_loss(client, asked), inputs, torch.tensor(advantages.copy())
    )
    theirs = -np.clip(ratios, 0.8, 1.2) * advantages > -ratios * advantages
    bounded = (ratios > 3) & (advantages < 0)
    counted = theirs if name == "clip_ratio" else theirs | bounded
    assert bounded[mask].any()
    assert metrics == {name: pytest.approx(counted[mask].mean(), rel=1e-12)}


def test_a_correction_among_skyrls_settings_is_not_dropped_in_silence(client: LossClient) -> None:
    """SkyRL's own losses make it; here it is the ``rollout_correction`` of the loss."""
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    inputs = given(3)
    then = torch.tensor(inputs["sampling_log_probabilities"])
    compute = seam.policy_loss(client, presets.dapo())
    asked = SimpleNamespace(off_policy_correction=SimpleNamespace(tis_ratio_type="token"))
    with pytest.raises(ValueError, match=r"off_policy_correction.tis_ratio_type must be None"):
        compute(torch.tensor(inputs[LOGS]), then, torch.tensor(inputs["advantages"]), asked)


def test_the_gap_to_the_sampler_is_told_without_a_correction(client: LossClient) -> None:
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    message = presets.dapo()
    message.kl_estimator = v1.KL_ESTIMATOR_NONE
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP)
    inputs = given(4)
    then = torch.tensor(inputs["sampling_log_probabilities"])
    advantages = torch.tensor(inputs["advantages"])
    _, metrics = seam.policy_loss(client, message)(
        torch.tensor(inputs[LOGS]), then, advantages, rollout_logprobs=then - 0.5
    )
    assert metrics == {"rollout_gap": pytest.approx(0.5)}


def test_a_loss_that_takes_what_skyrl_does_not_give_is_refused() -> None:
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    message = presets.grpo(kl_coefficient=0)
    message.kl_estimator = v1.KL_ESTIMATOR_K1
    with pytest.raises(ValueError, match=r"kl_estimator must ask for no reference_.* got K1"):
        seam.policy_loss("localhost:1", message)
