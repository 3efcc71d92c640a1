"""NeMo-RL's loss function, against its own where its source is installed."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import LossClient, presets
from tests.losses.case import Array
from tests.tokens import LOGS, drawn

torch = pytest.importorskip("torch")


def data(seed: int) -> tuple[dict[str, Any], Array]:
    """A batch in which every sequence has one token more, which nothing predicts."""
    inputs = drawn(seed)

    def shifted(array: Array) -> Any:
        return torch.tensor(np.concatenate([np.full((len(array), 1), np.nan), array], axis=1))

    mask = inputs["token_mask"].astype(float)
    advantages = np.broadcast_to(inputs["advantages"][:, None], mask.shape)
    return {
        "token_mask": torch.tensor(np.concatenate([np.ones((6, 1)), mask], axis=1)),
        "sample_mask": torch.tensor([1.0, 1, 0, 1, 1, 1], dtype=torch.float64),
        "advantages": shifted(advantages),
        "prev_logprobs": shifted(inputs["sampling_log_probabilities"]),
        "generation_logprobs": shifted(inputs["sampling_log_probabilities"]),
        "reference_policy_logprobs": shifted(inputs["reference_log_probabilities"]),
    }, inputs[LOGS]


def computed(loss_fn: Any, batch: dict[str, Any], logs: Array) -> tuple[float, Array]:
    now = torch.tensor(logs, requires_grad=True)
    loss, _ = loss_fn(batch, torch.tensor(11.0), torch.tensor(55.0), next_token_logprobs=now)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad.numpy()


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The seam without the package, whose release on the index is empty: with its enums."""
    stand_in: Any = ModuleType("nemo_rl.algorithms.loss.interfaces")
    stand_in.LossType = SimpleNamespace(TOKEN_LEVEL="token", SEQUENCE_LEVEL="sequence")  # noqa: S106
    stand_in.LossInputType = SimpleNamespace(LOGPROB="logprob")
    stand_in.MetricNormalizer = SimpleNamespace(TOKENS="tokens", SEQUENCES="sequences", NONE="none")
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return pytest.importorskip("lossd.client.seams.nemo_rl")


@pytest.mark.parametrize(("name", "divisor"), [("dapo", 55.0), ("grpo", 11.0)])
def test_the_frame_and_the_divisor_are_nemo_rls(
    client: LossClient, seam: Any, name: str, divisor: float
) -> None:
    message = presets.dapo() if name == "dapo" else presets.grpo()
    batch, logs = data(1)
    loss_fn = seam.PolicyLoss(client, message)
    loss, gradient = computed(loss_fn, batch, logs)
    keep = batch["sample_mask"].numpy() > 0
    given = {
        LOGS: logs,
        "sampling_log_probabilities": batch["prev_logprobs"].numpy()[:, 1:],
        "advantages": batch["advantages"].numpy()[:, 1:],
        "token_mask": batch["token_mask"].numpy()[:, 1:] > 0,
    }
    if message.kl_estimator:
        given["reference_log_probabilities"] = batch["reference_policy_logprobs"].numpy()[:, 1:]
    whole = client.compute(message, **given, mask=keep, normalizer=divisor)
    assert loss == pytest.approx(whole.loss, rel=1e-12)
    np.testing.assert_allclose(gradient, whole.gradients[LOGS], rtol=1e-12, atol=0)
    assert loss_fn.loss_type == ("token" if name == "dapo" else "sequence")


@pytest.mark.parametrize("is_by_token", [True, False])
def test_statistics_add_up_over_micro_batches(
    client: LossClient, seam: Any, *, is_by_token: bool
) -> None:
    """NeMo-RL adds the numbers of micro-batches up, and skips those without valid samples."""
    message = presets.dapo()
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_SAMPLING_KL)
    if is_by_token:
        message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT)
    batch, logs = data(3)
    batch["sample_mask"][:] = 1
    mask = batch["token_mask"].numpy()[:, 1:] > 0
    counts = torch.tensor(6.0), torch.tensor(float(mask.sum()))
    loss_fn = seam.PolicyLoss(client, message)
    told = [
        loss_fn(
            {name: given[part] for name, given in batch.items()},
            *counts,
            next_token_logprobs=torch.tensor(logs[part]),
        )[1]
        for part in (slice(0, 2), slice(2, 6))
    ]
    assert [one["num_valid_samples"] for one in told] == [2, 4]
    apart = np.where(mask, batch["prev_logprobs"].numpy()[:, 1:] - logs, 0)
    by_sequence = apart.sum(axis=1) / mask.sum(axis=1)
    expected = apart.sum() / mask.sum() if is_by_token else by_sequence.mean()
    assert sum(one["sampling_kl"] for one in told) == pytest.approx(expected, rel=1e-12)
    whole, _ = loss_fn(batch, *counts, next_token_logprobs=torch.tensor(logs))
    assert sum(one["loss"] for one in told) == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["dapo", "grpo"])
@pytest.mark.parametrize("is_by_token", [True, False])
def test_numbers_that_are_divided_at_the_end_of_a_step_are_the_same(
    client: LossClient, seam: Any, name: str, *, is_by_token: bool
) -> None:
    """NeMo-RL may give counts of 1, add up, and divide each number by what it is told of it."""
    message = presets.dapo() if name == "dapo" else presets.grpo()
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_SAMPLING_KL)
    if is_by_token:
        message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT)
    batch, logs = data(6)
    loss_fn = seam.PolicyLoss(client, message)

    def told(sequences: float, tokens: float) -> dict[str, float]:
        counts = torch.tensor(sequences), torch.tensor(tokens)
        numbers: dict[str, float]
        _, numbers = loss_fn(batch, *counts, next_token_logprobs=torch.tensor(logs))
        return numbers

    divisors = {"tokens": 55.0, "sequences": 11.0, "none": 1.0}
    at_once, sums = told(11.0, 55.0), told(1.0, 1.0)
    divided = {
        each: number / divisors[loss_fn.metric_normalizations[each]]
        for each, number in sums.items()
    }
    assert set(divided) == {"loss", "num_valid_samples", "sampling_kl"}
    assert divided == pytest.approx(at_once, rel=1e-12)


def test_a_release_that_does_not_divide_at_the_end_is_told_nothing(
    client: LossClient, seam: Any
) -> None:
    del sys.modules["nemo_rl.algorithms.loss.interfaces"].MetricNormalizer
    assert not hasattr(seam.PolicyLoss(client, presets.dapo()), "metric_normalizations")


def test_filtered_log_probabilities_are_not_compared_with_a_reference(
    client: LossClient, seam: Any
) -> None:
    """NeMo-RL prepares others for its own KL term, if the loss has a penalty that is not 0."""
    batch, logs = data(7)
    for message in (presets.dapo(), presets.grpo()):
        loss_fn = seam.PolicyLoss(client, message)
        computed(loss_fn, batch, logs)
        assert (loss_fn.reference_policy_kl_penalty != 0) == bool(message.kl_estimator)
    batch["curr_logprobs_unfiltered"] = torch.tensor(logs)
    with pytest.raises(ValueError, match=r"kl_estimator must be NONE where .* got K3"):
        computed(loss_fn, batch, logs)


def test_fractions_of_samples_are_weights(client: LossClient, seam: Any) -> None:
    batch, logs = data(4)
    batch["sample_mask"] = torch.tensor([1.0, 0.25, 0, 1, 1, 1], dtype=torch.float64)
    _, gradient = computed(seam.PolicyLoss(client, presets.dapo()), batch, logs)
    batch["sample_mask"][1] = 1
    _, full = computed(seam.PolicyLoss(client, presets.dapo()), batch, logs)
    assert full[1].any()
    np.testing.assert_allclose(gradient[1], full[1] / 4, rtol=1e-14)
    assert not gradient[2].any()


def test_tokens_that_a_filter_leaves_out_count_nowhere(client: LossClient, seam: Any) -> None:
    batch, logs = data(5)
    kept = np.random.default_rng(5).random(logs.shape) < 0.5
    batch["token_mask"] = batch["token_mask"].bool()
    batch["curr_logprobs_keep_mask"] = torch.tensor(kept)
    _, found = computed(seam.PolicyLoss(client, presets.dapo()), batch, logs)
    del batch["curr_logprobs_keep_mask"]
    _, whole = computed(seam.PolicyLoss(client, presets.dapo()), batch, logs)
    np.testing.assert_allclose(found, np.where(kept, whole, 0), rtol=1e-14)
    assert (found != whole).any()


def test_the_loss_is_nemo_rls_own(client: LossClient) -> None:
    theirs = pytest.importorskip(
        "nemo_rl.algorithms.loss.loss_functions", reason="NeMo-RL is not installed"
    )
    seam = pytest.importorskip("lossd.client.seams.nemo_rl")
    own = theirs.ClippedPGLossFn(
        theirs.ClippedPGLossConfig(
            reference_policy_kl_penalty=0.0, ratio_clip_min=0.2, ratio_clip_max=0.28
        )
    )
    batch, logs = data(2)
    value, expected = computed(own, batch, logs)
    loss, found = computed(seam.PolicyLoss(client, presets.dapo()), batch, logs)
    assert loss == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
