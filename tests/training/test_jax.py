"""``remote_loss`` is a function of JAX like any other."""

import functools
from typing import Any

import numpy as np
import pytest

from lossd.client import BatchWarning, InvalidRequestError, LossClient, presets, weighted_sum
from lossd.v1 import (
    Accuracy,
    CrossEntropy,
    FeatureMatching,
    InfoNce,
    SquaredError,
    SupervisedContrastive,
)

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from lossd.client.jax import remote_loss  # noqa: E402

pytestmark = pytest.mark.oracle


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def labels(count: int, *shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).integers(0, count, shape))


def cross_entropy(logits: Any, targets: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)
    return -chosen.mean()


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance / 10),
        actual,
        expected,
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_value_and_gradient_are_those_of_jax(address: str, *, compiled: bool) -> None:
    logits, targets = draw(8, 5), labels(5, 8)
    function = jax.value_and_grad(remote_loss(CrossEntropy(), address))
    function = jax.jit(function) if compiled else function

    assert_close(function(logits, targets), jax.value_and_grad(cross_entropy)(logits, targets))


def test_the_value_alone_asks_for_no_gradient(address: str) -> None:
    asked = []
    with LossClient(address) as client:
        compute = client.compute

        def spy(*arguments: Any, **options: Any) -> Any:
            asked.append(options["gradients"])
            return compute(*arguments, **options)

        client.compute = spy  # type: ignore[method-assign]
        loss_fn = remote_loss(SquaredError(), client)
        loss_fn(draw(3, 2), draw(3, 2, seed=1))
        jax.grad(loss_fn, argnums=1)(draw(3, 2), draw(3, 2, seed=1))
    assert asked == [(), ("targets",)]


def test_a_mapped_axis_is_computed_side_by_side(address: str) -> None:
    logits, targets = draw(6, 8, 5), labels(5, 6, 8)
    loss_fn = remote_loss(CrossEntropy(), address)

    assert_close(jax.vmap(loss_fn)(logits, targets), jax.vmap(cross_entropy)(logits, targets))
    assert_close(
        jax.vmap(jax.grad(loss_fn))(logits, targets),
        jax.vmap(jax.grad(cross_entropy))(logits, targets),
    )


def test_a_function_that_is_mapped_has_a_gradient(address: str) -> None:
    logits, targets = draw(4, 8, 5), labels(5, 8)

    def total(function: Any, given: Any) -> Any:
        mapped = jax.vmap(function, in_axes=(0, None))(given, targets)
        return (mapped * jnp.arange(1.0, 5.0)).sum()

    found = jax.jit(jax.grad(functools.partial(total, remote_loss(CrossEntropy(), address))))
    assert_close(found(logits), jax.grad(functools.partial(total, cross_entropy))(logits))


def test_axes_may_be_mapped_twice(address: str) -> None:
    logits, targets = draw(2, 3, 8, 5), labels(5, 3, 8)
    twice = jax.vmap(jax.vmap(remote_loss(CrossEntropy(), address)), in_axes=(0, None))
    expected = jax.vmap(jax.vmap(cross_entropy), in_axes=(0, None))

    assert_close(twice(logits, targets), expected(logits, targets))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_gradients_have_the_type_of_their_input(address: str, dtype: Any) -> None:
    logits, targets = draw(8, 5, dtype=dtype), labels(5, 8)
    value, gradient = jax.value_and_grad(remote_loss(CrossEntropy(), address))(logits, targets)

    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    right = jax.grad(cross_entropy)(logits.astype(jnp.float32), targets)
    np.testing.assert_allclose(gradient.astype(jnp.float32), right, atol=2e-3)


@pytest.mark.usefixtures("strict_promotion")
@pytest.mark.parametrize("of_cotangent", [None, jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_types_need_not_be_promoted(
    address: str, dtype: Any, reduction: Any, of_cotangent: Any
) -> None:
    logits, targets = draw(8, 5, dtype=dtype), labels(5, 8)
    given = {} if of_cotangent is None else {"cotangent": jnp.full(8, 2, of_cotangent)}
    loss_fn = remote_loss(CrossEntropy(), address, reduction=reduction)

    found = jax.grad(lambda x: loss_fn(x, targets, **given).mean())(logits)

    assert found.dtype == dtype
    right = jax.grad(cross_entropy)(logits.astype(jnp.float32), targets)
    right = right if of_cotangent is None else 2.0 * right
    np.testing.assert_allclose(found.astype(jnp.float32), right, atol=4e-3)


@pytest.mark.usefixtures("double_precision", "strict_promotion")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_types_beside_float64_need_not_be_promoted(
    address: str, dtype: Any, reduction: Any
) -> None:
    predictions, targets = draw(8, 5, dtype=dtype), draw(8, 5, seed=1, dtype=np.float64)
    loss_fn = remote_loss(SquaredError(), address, reduction=reduction)

    value, found = jax.value_and_grad(lambda x: loss_fn(x, targets).mean())(predictions)

    assert value.dtype == jnp.float64
    assert found.dtype == dtype
    right = (predictions.astype(jnp.float64) - targets) / 20
    tolerance = 1e-2 if dtype == jnp.bfloat16 else 1e-6
    np.testing.assert_allclose(found.astype(jnp.float64), right, rtol=tolerance, atol=1e-6)


def test_a_scaled_gradient_in_half_precision_is_rounded_last(address: str) -> None:
    logits, targets = (draw(512, 1000) * 4).astype(jnp.float16), labels(1000, 512)

    def scaled(function: Any, given: Any) -> Any:
        return function(given, targets) * 65536.0

    found = jax.grad(functools.partial(scaled, remote_loss(CrossEntropy(), address)))(logits)
    wide = functools.partial(scaled, lambda given, to: cross_entropy(given.astype(jnp.float32), to))
    assert (found == 0).sum() <= (jax.grad(wide)(logits) == 0).sum()


@pytest.mark.usefixtures("double_precision")
def test_double_precision(address: str) -> None:
    logits, targets = draw(8, 5, dtype=np.float64), labels(5, 8)
    function = jax.jit(jax.value_and_grad(remote_loss(CrossEntropy(), address)))
    found = function(logits, targets)

    assert found[0].dtype == found[1].dtype == jnp.float64
    assert_close(found, jax.value_and_grad(cross_entropy)(logits, targets), 1e-12)


def test_weights_and_mask(address: str) -> None:
    logits, targets = draw(6, 5), labels(5, 6)
    weights, mask = jnp.arange(1.0, 7.0), jnp.arange(6) != 2

    def expected(given: Any) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(given), targets[:, None], 1)[:, 0]
        kept = jnp.where(mask, weights, 0)
        return -(kept * chosen).sum() / kept.sum()

    loss_fn = remote_loss(CrossEntropy(), address)
    found = jax.value_and_grad(lambda x: loss_fn(x, targets, weights=weights, mask=mask))
    assert_close(found(logits), jax.value_and_grad(expected)(logits))


def test_several_inputs_and_lists(address: str) -> None:
    queries, keys = draw(6, 3), draw(6, 3, seed=1)

    def info_nce(left: Any, right: Any) -> Any:
        cosines = (left / jnp.linalg.norm(left, axis=1, keepdims=True)) @ (
            right / jnp.linalg.norm(right, axis=1, keepdims=True)
        ).T
        return cross_entropy(cosines / 0.5, jnp.arange(6))

    found = jax.grad(remote_loss(InfoNce(temperature=0.5), address), argnums=(0, 1))
    assert_close(found(queries, keys), jax.grad(info_nce, argnums=(0, 1))(queries, keys))

    maps, others = [draw(2, 3, 4), draw(2, 2, 5)], [draw(2, 3, 4, seed=2), draw(2, 2, 5, seed=3)]
    gradients = jax.grad(remote_loss(FeatureMatching(), address))(maps, others)
    expected = [(a - b) * 2 / a[0].size / 2 for a, b in zip(maps, others, strict=True)]
    assert_close(gradients, expected)


def test_a_thousand_calls_of_a_compiled_step_do_not_wait_for_themselves(address: str) -> None:
    logits, targets = draw(64, 100), labels(100, 64)
    loss_fn = remote_loss(CrossEntropy(), address)

    @jax.jit
    def step(x: Any) -> Any:
        return x - 10 * jax.grad(loss_fn)(x, targets)

    start = float(loss_fn(logits, targets))
    for _ in range(600):
        logits = step(logits)
    logits = jax.jit(lambda x: jax.lax.fori_loop(0, 400, lambda _, given: step(given), x))(logits)
    assert float(loss_fn(logits, targets)) < start / 4


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_that_is_a_constant_may_be_within_what_is_differentiated(
    address: str, reduction: Any, *, compiled: bool
) -> None:
    """As in a step of meta-learning of first order."""
    logits, targets = draw(8, 5), labels(5, 8)
    remote = remote_loss(CrossEntropy(), address, reduction=reduction)

    def after_a_step(loss: Any, weight: Any) -> Any:
        gradient = jax.lax.stop_gradient(jax.grad(loss)(weight))
        return loss(weight - 0.5 * gradient)

    def outcome(loss: Any) -> Any:
        function = jax.value_and_grad(functools.partial(after_a_step, loss))
        return (jax.jit(function) if compiled else function)(1.2)

    divisor = 1 if reduction == "mean" else len(targets)
    ours = outcome(lambda weight: remote(logits * weight, targets).sum() / divisor)
    assert_close(ours, outcome(lambda weight: cross_entropy(logits * weight, targets)))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_second_derivative_is_refused_in_words(
    address: str, reduction: Any, *, compiled: bool
) -> None:
    logits, targets = draw(8, 5), labels(5, 8)
    loss_fn = remote_loss(CrossEntropy(), address, reduction=reduction)
    gradient = jax.grad(lambda given: loss_fn(given, targets).sum())
    penalty = jax.grad(lambda given: (gradient(given) ** 2).sum())

    with pytest.raises(TypeError, match=r"of lossd must not be differentiated again: .* first der"):
        (jax.jit(penalty) if compiled else penalty)(logits)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_call_without_jit_compiles_nothing(
    address: str, caplog: pytest.LogCaptureFixture, reduction: Any
) -> None:
    logits, targets = draw(8, 5), labels(5, 8)
    loss_fn = remote_loss(CrossEntropy(), address, reduction=reduction)

    def step() -> Any:
        gradient = jax.grad(lambda given: loss_fn(given, targets).sum())(logits)
        return jax.block_until_ready((loss_fn(logits, targets), gradient))

    with jax.log_compiles():
        step()
        assert "Compiling" in caplog.text
        caplog.clear()
        step()
    assert "Compiling" not in caplog.text


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="reduction must be one of"):
        remote_loss(CrossEntropy(), reduction="average")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        "abc", [[1.0], [1.0, 2.0]], [1.0, None], {}, np.array([1.0, "a"], object),
        np.ma.masked_array(np.ones(2), [True, False]), np.ones(2, "M8[s]"), np.ones(2, complex),
        jnp.ones(2, jnp.float8_e4m3fn), jax.random.key(0), [2**40, 1],
    ],
    ids=[
        "text", "ragged", "nothing", "mapping", "objects", "masked", "times", "complex", "float8",
        "key", "long",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["predictions", "weights"])
def test_what_is_no_array_of_numbers_is_refused_by_name(
    address: str, name: str, wrong: Any
) -> None:
    given = {"predictions": jnp.ones(2), "targets": jnp.ones(2), name: wrong}
    with pytest.raises(InvalidRequestError, match=f"^{name} must ") as told:
        remote_loss(SquaredError(), address)(**given)
    assert told.value.field == name


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("make", [np.array, list])
def test_labels_that_jax_would_cut_are_refused(address: str, make: Any, *, compiled: bool) -> None:
    """In 32 bits the first and the second would be one class."""
    far = make(np.array([0, 2**32, 0, 2**32]))
    near = make(np.array([0, 2**31 - 1, 0, 2**31 - 1]))
    loss_fn = remote_loss(SupervisedContrastive(), address)
    found = functools.partial(loss_fn, labels=far)
    with pytest.raises(InvalidRequestError, match=r"^labels must be .*4294967296"):
        (jax.jit(found) if compiled else found)(draw(4, 3))
    expected = loss_fn(draw(4, 3), jnp.array([0, 1, 0, 1]))
    assert_close(loss_fn(draw(4, 3), near), expected)


def test_a_mistake_is_named(address: str) -> None:
    loss_fn = jax.jit(remote_loss(CrossEntropy(), address))
    with pytest.raises(Exception, match="targets"):
        jax.block_until_ready(loss_fn(draw(4, 3), jnp.full(4, 7)))


def test_names_and_lints_reach_the_server(address: str) -> None:
    loss_fn = remote_loss("cross_entropy", address, lint=True)
    probabilities = jax.nn.softmax(draw(16, 4))
    with pytest.warns(BatchWarning, match="set prediction_kind="):
        found = loss_fn(probabilities, labels(4, 16))
    assert_close(found, cross_entropy(probabilities, labels(4, 16)))
    with pytest.raises(InvalidRequestError, match="did you mean cross_entropy"):
        remote_loss("crossentropy", address)  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_weights_must_not_be_differentiated(address: str, reduction: Any) -> None:
    logits, targets = draw(8, 5), labels(5, 8)
    loss_fn = remote_loss(CrossEntropy(), address, reduction=reduction)

    def weighed(given: Any, stop: Any) -> Any:
        return loss_fn(given, targets, weights=stop(given[:, 0] ** 2), mask=given[:, 1] > -9).sum()

    with pytest.raises(InvalidRequestError, match="weights must not be differentiated"):
        jax.grad(lambda x: weighed(x, lambda weights: weights))(logits)
    gradient = jax.jit(jax.grad(lambda x: weighed(x, jax.lax.stop_gradient)))(logits)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit, jax.eval_shape])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_an_input_without_a_gradient_is_refused_when_it_is_traced(
    address: str, reduction: Any, wrap: Any
) -> None:
    now, then, advantages = draw(4, 6), draw(4, 6, seed=1), draw(4, seed=2)
    loss_fn = remote_loss(presets.dapo(), address, reduction=reduction)

    def summed(tokens: Any, stop: Any) -> Any:
        return loss_fn(tokens, stop(tokens + then), advantages).sum()

    wrong = jax.grad(lambda tokens: summed(tokens, lambda given: given))
    call = functools.partial(wrap, wrong) if wrap is jax.eval_shape else wrap(wrong)
    rule = "gradients must be among log_probabilities for PolicyGradient, got 'sampling_log_prob"
    with pytest.raises(InvalidRequestError, match=rule) as told:
        call(now)
    assert told.value.field == "gradients.inputs"
    found = jax.grad(lambda tokens: summed(tokens, jax.lax.stop_gradient))(now)
    assert np.isfinite(found).all()


def test_inputs_of_every_term_of_a_sum_are_differentiable(address: str) -> None:
    summed = weighted_sum((1.0, CrossEntropy()), (1.0, SquaredError(), {"targets": "scores"}))
    logits, targets, scores = draw(6, 4), labels(4, 6), draw(6, 4, seed=1)
    gradient = jax.grad(remote_loss(summed, address), argnums=2)(logits, targets, scores)
    assert_close(gradient, (scores - logits) * 2 / scores.size)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "batch_mean", "sum", "none"])
def test_a_cotangent_multiplies_the_upstream_gradient(
    address: str, reduction: Any, *, compiled: bool
) -> None:
    logits, targets = draw(6, 4), labels(4, 6)
    upstream, own = draw(6, seed=1), draw(6, seed=2)
    loss_fn = remote_loss(CrossEntropy(), address, reduction=reduction)
    count = 6 if "mean" in reduction else 1

    def total(given: Any, cotangent: Any) -> Any:
        value = loss_fn(given, targets, cotangent=cotangent)
        return (value * upstream).sum() if reduction == "none" else value * 3.0

    def expected(given: Any, cotangent: Any) -> Any:
        """As a cotangent is defined: within the sum, and of the gradients alone."""
        chosen = jnp.take_along_axis(jax.nn.log_softmax(given), targets[:, None], 1)[:, 0]
        factors = upstream if reduction == "none" else 3.0 / count
        return -(chosen * factors * cotangent).sum()

    wrap = jax.jit if compiled else lambda function: function
    for cotangent in (own, 2.0, jnp.float32(-0.5)):
        found = wrap(jax.grad(total))(logits, cotangent)
        assert_close(found, jax.grad(expected)(logits, cotangent))
        assert_close(wrap(total)(logits, cotangent), total(logits, None))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_normalizer_of_a_batch_takes_the_place_of_that_of_all(
    address: str, *, compiled: bool
) -> None:
    logits, targets = draw(6, 4), labels(4, 6)
    loss_fn = remote_loss(CrossEntropy(), address, normalizer=5.0)
    wrap = jax.jit if compiled else lambda function: function
    for given, divisor in ((None, 5), (24.0, 24), (3, 3), (jnp.float32(0.5), 0.5)):
        found = wrap(jax.value_and_grad(lambda x, n: loss_fn(x, targets, normalizer=n)))

        def expected(x: Any, divisor: float = divisor) -> Any:
            return cross_entropy(x, targets) * 6 / divisor

        assert_close(found(logits, given), jax.value_and_grad(expected)(logits))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": True}, "names of the loss, got 'target': did you mean targets"),
        ({"weight": True}, "got 'weight': did you mean weights"),
        ({"normaliser": True}, "got 'normaliser': did you mean normalizer"),
        ({"variances": True}, "names of the loss, got 'variances'"),
        ({"timeout": 5}, "inputs must be tensors, got timeout, an option: give it with the loss"),
        ({"lint": True}, "got lint, an option: give it with the loss"),
        ({"per_example": True}, "inputs must be tensors, got per_example, an option"),
        ({"label_smoothing": 0.1}, r"give it to the loss, as in CrossEntropy\(label_smoothing="),
        ({"normalizer": -1.0}, r"normalizer must be in \(0, inf\), got -1"),
        ({"normalizer": [1.0, 2.0]}, r"normalizer must be a number, got \[1.0, 2.0\]"),
        ({"normalizer": jnp.ones(2)}, r"normalizer must be a number, got the shape \[2\]"),
    ],
)
def test_what_the_loss_does_not_take_is_refused_when_it_is_traced(
    address: str, wrong: dict[str, Any], message: str, *, compiled: bool
) -> None:
    logits, targets = draw(6, 4), labels(4, 6)
    loss_fn = remote_loss(CrossEntropy(), address)
    for inputs, named in (
        ((logits, targets), {}),
        ((), {"predictions": logits, "targets": targets}),
    ):
        call = functools.partial(loss_fn, **wrong, **named)
        with pytest.raises(InvalidRequestError, match=message):
            (jax.jit(call) if compiled else call)(*inputs)


@pytest.mark.parametrize("wrap", [jax.jit, jax.grad, jax.eval_shape])
def test_an_input_that_is_missing_is_told_when_it_is_traced(address: str, wrap: Any) -> None:
    loss_fn = remote_loss(CrossEntropy(), address)
    call = functools.partial(wrap, loss_fn) if wrap is jax.eval_shape else wrap(loss_fn)
    with pytest.raises(InvalidRequestError, match="targets must be given, got none"):
        call(draw(6, 4))
    with pytest.raises(InvalidRequestError, match="predictions must be given, got none"):
        loss_fn()
    summed = weighted_sum((1.0, CrossEntropy()), (1.0, SquaredError(), {"targets": "scores"}))
    with pytest.raises(InvalidRequestError, match="scores must be given, got none"):
        remote_loss(summed, address)(draw(6, 4), labels(4, 6))
    weighed = remote_loss("info_nce", address)(draw(6, 4), draw(6, 4))  # without its negatives
    assert np.isfinite(weighed)


def test_a_cotangent_of_another_shape_is_not_spread_over_the_examples(address: str) -> None:
    logits, targets = draw(6, 4), labels(4, 6)
    loss_fn = remote_loss(CrossEntropy(), address, reduction="none")

    @jax.jit
    def gradient(given: Any) -> Any:
        return jax.grad(lambda x: loss_fn(x, targets, cotangent=jnp.ones(1)).sum())(given)

    with pytest.raises(InvalidRequestError, match=r"cotangent must have the shape \[6\]"):
        gradient(logits)


made: Any = remote_loss  # what is wrong on purpose is wrong for the type checker too


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda to: made(Accuracy(), to), "got the metric Accuracy: train with"),
        (lambda to: made(CrossEntropy, to), "got the class CrossEntropy"),
        (lambda to: made(weighted_sum(), to), "terms must be at least one"),
        (lambda to: made("huber", to, empty="x"), "empty must be one of zero, nan, error"),
        (lambda to: made("huber", to, nonfinite="x"), "nonfinite must be one of"),
        (lambda to: made("huber", to, lint="yes"), "lint must be True or False"),
        (lambda to: made("huber", to, normalizer=0), r"normalizer must be in \(0, inf\)"),
        (
            lambda to: made("huber", to, normalizer=2, reduction="sum"),
            "normalizer must go with the reductions mean and batch_mean, got sum",
        ),
    ],
)
def test_what_no_call_could_take_is_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        make("127.0.0.1:9")  # nobody listens there


@pytest.mark.parametrize("compiled", [False, True])
def test_arrays_of_others_are_taken_as_compute_takes_them(address: str, *, compiled: bool) -> None:
    torch = pytest.importorskip("torch")
    predictions, targets = np.array([1, 2, 3], np.float32), np.array([2, 3, 5.5], np.float32)
    loss_fn = remote_loss(SquaredError(), address)
    for made in (
        predictions.astype(">f4"), predictions.astype(">f2"), predictions[::-1][::-1],
        torch.tensor(predictions).bfloat16(), torch.tensor(predictions, requires_grad=True),
    ):  # fmt: skip
        call = functools.partial(loss_fn, made, targets)
        assert_close((jax.jit(call) if compiled else call)(), 2.75)
    chosen = np.array([2, 0, 1], ">i8")
    expected = cross_entropy(draw(3, 4), jnp.array([2, 0, 1]))
    assert_close(remote_loss(CrossEntropy(), address)(draw(3, 4), chosen), expected)
