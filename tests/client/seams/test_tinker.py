"""Tinker's custom loss, and the gradients that Together takes."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient, presets
from lossd.client.seams import tinker, together
from tests.losses.case import Array

torch = pytest.importorskip("torch")

LENGTHS = (3, 1, 4)


class Numbers:
    """An array as a datum has it."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def to_numpy(self) -> Array:
        return self._array


def drawn() -> tuple[list[Any], list[Any]]:
    """Data with Tinker's names, and the log-probabilities that the model gives."""
    rng = np.random.default_rng(1)
    data, tensors = [], []
    for length in LENGTHS:
        now = -rng.exponential(1, length).astype(np.float32)
        then = now + rng.normal(0, 0.3, length).astype(np.float32)
        advantages = rng.normal(0, 1, length).astype(np.float32)
        given = {"logprobs": Numbers(then), "advantages": Numbers(advantages)}
        data.append(SimpleNamespace(loss_fn_inputs=given))
        tensors.append(torch.tensor(now, requires_grad=True))
    return data, tensors


def by_hand(data: Sequence[Any], tensors: Sequence[Any]) -> Any:
    """Importance sampling as Tinker documents it."""
    terms = []
    for datum, now in zip(data, tensors, strict=True):
        then = torch.tensor(datum.loss_fn_inputs["logprobs"].to_numpy())
        advantages = torch.tensor(datum.loss_fn_inputs["advantages"].to_numpy())
        terms.append(-(torch.exp(now - then) * advantages).sum())
    return torch.stack(terms).sum()


def derivatives(loss: Any, tensors: Sequence[Any]) -> list[Array]:
    loss.backward()
    return [one.grad.numpy() for one in tensors if one.grad is not None]


def test_tinkers_function_has_the_value_and_the_gradient_of_the_loss(client: LossClient) -> None:
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    data, tensors = drawn()
    expected_data, expected_tensors = drawn()
    expected = by_hand(expected_data, expected_tensors)

    found, metrics = loss_fn(data, tensors)

    assert metrics == {}
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip(
        derivatives(found, tensors), derivatives(expected, expected_tensors), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_models_of_any_type_have_gradients_of_their_type(client: LossClient, dtype: str) -> None:
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    data, tensors = drawn()
    models = [one.detach().to(getattr(torch, dtype)).requires_grad_() for one in tensors]

    found, _ = loss_fn(data, models)
    found.backward()

    exact = [one.detach().float().requires_grad_() for one in models]
    expected = by_hand(data, exact)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, theirs in zip(models, exact, strict=True):
        assert mine.grad.dtype == mine.dtype
        torch.testing.assert_close(mine.grad.float(), theirs.grad, rtol=1e-2, atol=1e-3)


def test_a_step_along_the_gradient_lowers_the_loss_and_one_against_it_does_not(
    client: LossClient,
) -> None:
    """The control: a sign that is turned trains the wrong way in silence."""
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    data, tensors = drawn()
    before, _ = loss_fn(data, tensors)
    gradients = derivatives(before, tensors)
    for sign, is_lower in ((-1, True), (1, False)):
        moved = [
            torch.tensor(one.detach().numpy() + sign * 1e-3 * derivative, requires_grad=True)
            for one, derivative in zip(tensors, gradients, strict=True)
        ]
        after, _ = loss_fn(data, moved)
        assert (after.item() < before.item()) == is_lower


def test_a_gradient_is_not_differentiated_again_in_silence(client: LossClient) -> None:
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    data, tensors = drawn()
    loss, _ = loss_fn(data, tensors)
    with pytest.raises(RuntimeError, match="must not be differentiated again"):
        torch.autograd.grad(loss, tensors, create_graph=True)


def test_what_is_asked_of_a_loss_comes_as_metrics(client: LossClient) -> None:
    message = presets.cispo("tinker")
    message.outputs.append("POLICY_GRADIENT_OUTPUT_RATIO")  # type: ignore[arg-type]
    _, metrics = tinker.custom_loss(client, message, reduction="sum")(*drawn())
    assert set(metrics) == {"ratio"}


def test_statistics_of_tokens_are_means_over_tokens(client: LossClient) -> None:
    """Both tokens of a short sequence are clipped, and none of a long one."""
    message = presets.ppo()
    message.outputs.extend(
        ["POLICY_GRADIENT_OUTPUT_CLIP_FRACTION", "POLICY_GRADIENT_OUTPUT_TOKEN_COUNT"]  # type: ignore[list-item]
    )
    data, tensors = [], []
    for length, moved in ((2, 1.0), (98, 0.0)):
        then, ones = np.full(length, -2.0, np.float32), np.ones(length, np.float32)
        given = {"logprobs": Numbers(then), "advantages": Numbers(ones)}
        data.append(SimpleNamespace(loss_fn_inputs=given))
        tensors.append(torch.tensor(then + moved, requires_grad=True))
    _, metrics = tinker.custom_loss(client, message)(data, tensors)
    assert metrics == {"clip_fraction": pytest.approx(0.02)}


def test_a_datum_of_another_length_is_refused(client: LossClient) -> None:
    data, tensors = drawn()
    data[1].loss_fn_inputs["advantages"] = Numbers(np.zeros(2, np.float32))
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    with pytest.raises(ValueError, match="advantages must have 1 numbers, got 2"):
        loss_fn(data, tensors)
    del data[1].loss_fn_inputs["advantages"]
    with pytest.raises(ValueError, match="advantages must be in all data or in none, got 2"):
        loss_fn(data, tensors)


def of_lengths(lengths: Sequence[int], advantages: Sequence[Sequence[float]]) -> Any:
    """Data of some lengths, and the log-probabilities of their tokens."""
    given = zip(lengths, advantages, strict=True)
    data = [
        SimpleNamespace(
            loss_fn_inputs={
                "logprobs": Numbers(np.full(length, -1, np.float32)),
                "advantages": Numbers(np.array(each, np.float32)),
            }
        )
        for length, each in given
    ]
    return data, [torch.full((length,), -1.0, requires_grad=True) for length in lengths]


@pytest.mark.parametrize("lengths", [(0, 2), (2, 0), (0, 1, 2), (0, 0, 3)], ids=str)
def test_advantages_of_as_many_tokens_as_data_are_refused(
    client: LossClient, lengths: tuple[int, ...]
) -> None:
    """They would be taken for those of data, of which one has no tokens."""
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    with pytest.raises(
        ValueError, match=f"advantages must be one for each datum .* got {len(lengths)} of tokens"
    ):
        loss_fn(*of_lengths(lengths, [[1.0] * length for length in lengths]))


@pytest.mark.parametrize(
    ("lengths", "advantages", "expected"),
    [
        ((0, 2), [[9], [3]], [[], [-3, -3]]),
        ((0, 1, 2), [[9], [2], [3]], [[], [-2], [-3, -3]]),
        ((0, 3), [[], [1, 2, 3]], [[], [-1, -2, -3]]),
        ((0, 1), [[], [4]], [[], [-4]]),
        ((1, 1), [[4], [5]], [[-4], [-5]]),
        ((0, 0), [[], []], [[], []]),
    ],
)
def test_data_without_tokens_have_no_gradient(
    client: LossClient, lengths: Any, advantages: Any, expected: Any
) -> None:
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    data, tensors = of_lengths(lengths, advantages)
    found, _ = loss_fn(data, tensors)
    assert found.item() == sum(map(sum, expected))
    assert [each.tolist() for each in derivatives(found, tensors)] == expected


def test_a_mask_of_other_numbers_is_no_weight(client: LossClient) -> None:
    data, tensors = drawn()
    for datum, length in zip(data, LENGTHS, strict=True):
        datum.loss_fn_inputs["mask"] = Numbers(np.full(length, 0.5, np.float32))
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    with pytest.raises(ValueError, match=r"mask must be 0 or 1 for each token, got 0\.5"):
        loss_fn(data, tensors)


def test_an_input_may_have_a_number_for_each_datum(client: LossClient) -> None:
    """Advantages of sequences are those of each of their tokens."""
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    found = []
    for is_spread in (False, True):
        data, tensors = drawn()
        for number, (datum, length) in enumerate(zip(data, LENGTHS, strict=True)):
            each = np.full(length if is_spread else 1, number - 0.5, np.float32)
            datum.loss_fn_inputs["advantages"] = Numbers(each)
        loss, _ = loss_fn(data, tensors)
        found.append((loss.item(), *derivatives(loss, tensors)))
    for mine, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_losses_of_desirable_answers_take_one_number_for_each(client: LossClient) -> None:
    names = {"reference_log_probabilities": "logprobs", "desirable": "good"}
    loss_fn = tinker.custom_loss(client, presets.bco(beta=0.5, shift=0.0), names=names)
    data, tensors = drawn()
    for datum, is_good in zip(data, (1, 0, 1), strict=True):
        datum.loss_fn_inputs["good"] = Numbers(np.array([is_good]))
    found, _ = loss_fn(data, tensors)
    terms = []
    again, copies = drawn()
    for datum, now, sign in zip(again, copies, (1, -1, 1), strict=True):
        apart = (now - torch.tensor(datum.loss_fn_inputs["logprobs"].to_numpy())).sum()
        terms.append(-torch.nn.functional.logsigmoid(sign * 0.5 * apart))
    expected = torch.stack(terms).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip(
        derivatives(found, tensors), derivatives(expected, copies), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_an_address_has_one_client(client: LossClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossd.client.reaching.LossClient", lambda _: client)
    loss_fn = tinker.custom_loss("localhost:1", presets.importance_sampling(), reduction="sum")
    expected = by_hand(*drawn()).item()
    assert loss_fn(*drawn())[0].item() == pytest.approx(expected, rel=1e-6)


def test_a_loss_without_its_gradient_is_refused(client: LossClient) -> None:
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), gradients=())
    with pytest.raises(ValueError, match="gradients must have log_probabilities"):
        loss_fn(*drawn())


@pytest.mark.parametrize("as_theirs", [tinker.weights, together.gradients])
def test_gradients_of_other_tokens_than_the_offsets_tell_are_refused(as_theirs: Any) -> None:
    for shape, offsets, rule in (
        ((2, 3), [0, 3, 6], r"gradients must have the shape \[6\] of the tokens, got \[2, 3\]"),
        ((3,), [0, 1, 2], r"gradients must have the shape \[2\] of the tokens, got \[3\]"),
        ((2,), [0, 3, 2], r"offsets must ascend from 0, got \[0, 3, 2\]"),
        ((2,), [1, 2], r"offsets must ascend from 0, got \[1, 2\]"),
        ((0,), [], r"offsets must ascend from 0, got \[\]"),
    ):
        with pytest.raises(ValueError, match=rule):
            as_theirs(np.zeros(shape, np.float32), np.array(offsets, np.int64))
    assert as_theirs(np.zeros(0, np.float32), np.array([0])) == []


def test_an_impossible_token_without_advantage_has_no_gradient(client: LossClient) -> None:
    given = {
        "logprobs": Numbers(np.array([-1.0, -1.0], np.float32)),
        "advantages": Numbers(np.array([0.0, 1.0], np.float32)),
    }
    now = torch.tensor([-torch.inf, -1.0], requires_grad=True)
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    found, _ = loss_fn([SimpleNamespace(loss_fn_inputs=given)], [now])
    assert found.item() == -1
    assert derivatives(found, [now])[0].tolist() == [0.0, -1.0]


def test_tinkers_weights_are_minus_the_gradient_and_together_s_are_the_gradient() -> None:
    gradient, offsets = np.array([1.0, -2.0, 3.0], np.float32), np.array([0, 2, 3])
    assert [one.tolist() for one in tinker.weights(gradient, offsets)] == [[-1.0, 2.0], [-3.0]]
    assert together.gradients(gradient, offsets) == [
        {"data": [1.0, -2.0], "dtype": "float32"},
        {"data": [3.0], "dtype": "float32"},
    ]


def test_the_real_package_sends_the_weights_that_stand_for_the_loss(client: LossClient) -> None:
    """Against the package itself, where it is installed: no server is called."""
    types = pytest.importorskip("tinker").types
    clients = pytest.importorskip("tinker.lib.public_interfaces.training_client")
    given, tensors = drawn()
    data = [
        types.Datum(
            model_input=types.ModelInput.from_ints(list(range(len(now)))),
            loss_fn_inputs={
                "target_tokens": types.TensorData.from_numpy(np.arange(len(now))),
                **{
                    name: types.TensorData.from_numpy(array.to_numpy())
                    for name, array in datum.loss_fn_inputs.items()
                },
            },
        )
        for datum, now in zip(given, tensors, strict=True)
    ]
    forward = SimpleNamespace(
        loss_fn_outputs=[
            {"logprobs": types.TensorData.from_numpy(now.detach().numpy())} for now in tensors
        ]
    )
    loss_fn = tinker.custom_loss(client, presets.importance_sampling(), reduction="sum")
    sent = clients.TrainingClient._compute_custom_loss(data, loss_fn, forward)
    again, copies = drawn()
    expected = derivatives(by_hand(again, copies), copies)
    for datum, derivative in zip(sent.data, expected, strict=True):
        weights = datum.loss_fn_inputs["weights"].to_numpy()
        np.testing.assert_allclose(weights, -derivative, rtol=1e-6)
