"""``remote_loss`` under ``vmap`` and with ``reduction="none"``: values, gradients and calls."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient, presets
from lossd.client.example_axes import ELEMENTS, INDEPENDENT, ROWS
from lossd.losses import LOSSES, Shape
from lossd.v1 import (
    BinaryCrossEntropy,
    ClippedValue,
    CrossEntropy,
    Ctc,
    Dice,
    Huber,
    InfoNce,
    KahnemanTversky,
    KlDivergence,
    PairwiseAuc,
    SoftmaxFocal,
    SquaredError,
    Triplet,
)

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
import jax.numpy as jnp  # noqa: E402

from lossd.client.jax import remote_loss  # noqa: E402

pytestmark = pytest.mark.oracle


class Counting(LossClient):
    """A client that counts the batches that it sends."""

    batches = 0

    def compute(self, *arguments: Any, **options: Any) -> Any:
        self.batches += 1
        return super().compute(*arguments, **options)


@pytest.fixture
def client(address: str) -> Iterator[Counting]:
    with Counting(address) as counting:
        yield counting


def draw(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def labels(count: int, *shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).integers(0, count, shape))


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance / 10)
    jax.tree.map(close, actual, expected)


def cross_entropy(logits: Any, targets: Any) -> Any:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets)


def squared_error(predictions: Any, targets: Any) -> Any:
    return optax.losses.squared_error(predictions, targets).mean(-1)


def huber(predictions: Any, targets: Any) -> Any:
    return optax.losses.huber_loss(predictions, targets, delta=0.5).mean(-1)


def binary(logits: Any, targets: Any) -> Any:
    return optax.losses.sigmoid_binary_cross_entropy(logits, targets).mean(-1)


def divergence(logits: Any, targets: Any) -> Any:
    return optax.losses.kl_divergence(jax.nn.log_softmax(logits), targets)


# A loss, what optax has for each example, and inputs of four batches of eight examples.
TWINS: dict[str, tuple[Any, Callable[..., Any], tuple[Any, ...]]] = {
    "cross_entropy": (CrossEntropy(), cross_entropy, (draw(4, 8, 5), labels(5, 4, 8))),
    "squared_error": (SquaredError(), squared_error, (draw(4, 8, 3), draw(4, 8, 3, seed=1))),
    "huber": (Huber(delta=0.5), huber, (draw(4, 8, 3), draw(4, 8, 3, seed=1))),
    "binary_cross_entropy": (
        BinaryCrossEntropy(), binary, (draw(4, 8, 3), labels(2, 4, 8, 3).astype(jnp.float32)),
    ),
    "kl_divergence": (
        KlDivergence(), divergence, (draw(4, 8, 5), jax.nn.softmax(draw(4, 8, 5, seed=1))),
    ),
}  # fmt: skip


def mean_of(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: function(*given).mean()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", TWINS)
def test_mapped_losses_are_one_call(client: Counting, name: str, *, compiled: bool) -> None:
    loss, vector, inputs = TWINS[name]
    ours, theirs = remote_loss(loss, client), mean_of(vector)
    wrap = jax.jit if compiled else lambda function: function

    assert_close(wrap(jax.vmap(ours))(*inputs), jax.vmap(theirs)(*inputs))
    assert client.batches == 1
    found = wrap(jax.vmap(jax.value_and_grad(ours)))(*inputs)
    assert_close(found, jax.vmap(jax.value_and_grad(theirs))(*inputs))
    assert client.batches == 2

    def total(function: Any, given: Any) -> Any:
        return (jax.vmap(function)(given, *inputs[1:]) * jnp.arange(1.0, 5.0)).sum()

    found = wrap(jax.grad(functools.partial(total, ours)))(inputs[0])
    assert_close(found, jax.grad(functools.partial(total, theirs))(inputs[0]))
    assert client.batches == 3


@pytest.mark.parametrize("name", TWINS)
def test_a_vector_is_differentiable(client: Counting, name: str) -> None:
    loss, vector, inputs = TWINS[name]
    one = tuple(given[0] for given in inputs)
    ours = remote_loss(loss, client, reduction="none")

    assert_close(jax.jit(ours)(*one), vector(*one))
    assert client.batches == 1

    def total(function: Any, given: Any) -> Any:
        return (function(given, *one[1:]) * jnp.arange(8.0)).sum()

    found = jax.jit(jax.grad(functools.partial(total, ours)))(one[0])
    assert_close(found, jax.grad(functools.partial(total, vector))(one[0]))
    assert client.batches == 2  # JAX leaves out the forward pass, whose value nobody asked for


def test_a_mapped_vector_is_one_call_forwards_and_one_backwards(client: Counting) -> None:
    logits, targets = TWINS["cross_entropy"][2]
    upstream = draw(4, 8, seed=3)
    ours = remote_loss(CrossEntropy(), client, reduction="none")

    def total(function: Any, given: Any) -> Any:
        return (jax.vmap(function)(given, targets) * upstream).sum()

    found = jax.jit(jax.value_and_grad(functools.partial(total, ours)))(logits)
    assert_close(found, jax.value_and_grad(functools.partial(total, cross_entropy))(logits))
    assert client.batches == 2
    jacobian = jax.jacrev(ours)(logits[0], targets[0])
    assert_close(jacobian, jax.jacrev(cross_entropy)(logits[0], targets[0]))
    assert client.batches == 4


def test_weights_are_in_the_values_of_a_vector_as_they_are_in_its_gradients(
    client: Counting,
) -> None:
    logits, targets = (given[0] for given in TWINS["cross_entropy"][2])
    weights, mask = jnp.arange(8.0), jnp.arange(8) != 3
    ours = remote_loss(CrossEntropy(), client, reduction="none")

    def theirs(given: Any) -> Any:
        return jnp.where(mask, weights * cross_entropy(given, targets), 0)

    found = jax.value_and_grad(lambda x: ours(x, targets, weights=weights, mask=mask).sum())
    assert_close(found(logits), jax.value_and_grad(lambda x: theirs(x).sum())(logits))


def test_single_examples_may_be_mapped(client: Counting) -> None:
    logits, targets = draw(16, 5), labels(5, 16)
    found = jax.vmap(jax.value_and_grad(remote_loss(CrossEntropy(), client)))(logits, targets)
    assert_close(found, jax.vmap(jax.value_and_grad(cross_entropy))(logits, targets))
    assert client.batches == 1


def test_axes_may_be_mapped_twice_and_shared(client: Counting) -> None:
    logits, targets = draw(2, 3, 8, 5), labels(5, 3, 8)
    loss_fn, theirs = remote_loss(CrossEntropy(), client), mean_of(cross_entropy)

    def twice(function: Any) -> Any:
        return jax.vmap(jax.vmap(jax.value_and_grad(function)), in_axes=(0, None))

    assert_close(twice(loss_fn)(logits, targets), twice(theirs)(logits, targets))
    assert client.batches == 1
    shared = jax.vmap(jax.grad(loss_fn), in_axes=(None, 0))
    assert_close(
        shared(logits[0, 0], targets), jax.vmap(jax.grad(theirs), (None, 0))(logits[0, 0], targets)
    )
    assert client.batches == 2


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(client: Counting, dtype: Any) -> None:
    logits, targets = draw(4, 8, 5).astype(dtype), labels(5, 4, 8)
    ours = jax.vmap(jax.value_and_grad(remote_loss(CrossEntropy(), client)))
    value, gradient = jax.jit(ours)(logits, targets)
    theirs = jax.vmap(jax.value_and_grad(mean_of(cross_entropy)))
    expected = theirs(logits.astype(jnp.float32), targets)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    assert_close(value, expected[0])
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected[1], rtol=8e-3, atol=1e-5)
    assert client.batches == 1


@pytest.mark.usefixtures("double_precision")
def test_double_precision(client: Counting) -> None:
    random = np.random.default_rng(0)
    logits, targets = jnp.asarray(random.standard_normal((4, 8, 5))), labels(5, 4, 8)
    ours = jax.vmap(jax.value_and_grad(remote_loss(CrossEntropy(), client)))
    found = jax.jit(ours)(logits, targets)
    assert found[0].dtype == found[1].dtype == jnp.float64
    expected = jax.vmap(jax.value_and_grad(mean_of(cross_entropy)))(logits, targets)
    assert_close(found, expected, 1e-12)
    assert client.batches == 1


# Batches that are not alike, in which an example is ignored, masked or of weight 0: a loss, inputs,
# weights and a mask, and how many calls they need.
UNEVEN: dict[str, tuple[Any, tuple[Any, ...], Any, Any, int]] = {
    "ignored": (CrossEntropy(ignore_index=2), (draw(4, 8, 5), labels(5, 4, 8)), None, None, 1),
    "weights": (CrossEntropy(), (draw(4, 8, 5), labels(5, 4, 8)), draw(4, 8) ** 2, None, 1),
    "mask": (
        SquaredError(batch_dims=2), (draw(4, 8, 5), draw(4, 8, 5, seed=1)), None,
        draw(4, 8, 5, seed=2) > 0, 1,
    ),
    "an empty batch": (
        CrossEntropy(), (draw(4, 8, 5), labels(5, 4, 8)), draw(4, 8) ** 2,
        jnp.arange(4)[:, None] != jnp.ones(8), 1,
    ),
    "classes on axis 1": (
        CrossEntropy(class_axis=1), (draw(4, 8, 5, 3), labels(5, 4, 8, 3)), None, None, 1,
    ),
    "classes on axis 0": (
        CrossEntropy(class_axis=0), (draw(4, 5, 8), labels(5, 4, 8)), None, None, 4,
    ),
    "classes of weights": (
        CrossEntropy(class_weights=[1, 2, 3, 4, 5]), (draw(4, 8, 5), labels(5, 4, 8)), None, None,
        4,
    ),
    "ctc": (
        Ctc(),
        (draw(4, 2, 6, 3), labels(2, 4, 2, 2) + 1, labels(2, 4, 2) + 5, labels(2, 4, 2) + 1),
        None, None, 1,
    ),
    "regions": (Dice(), (draw(4, 3, 6), labels(2, 4, 3, 6).astype(jnp.float32)), None, None, 1),
    "vectors": (
        Triplet(), (draw(4, 6, 3), draw(4, 6, 3, seed=1), draw(4, 6, 3, seed=2)), None, None, 1,
    ),
    "focal": (SoftmaxFocal(), (draw(4, 8, 5), labels(5, 4, 8)), None, None, 1),
    "coupled": (InfoNce(temperature=0.5), (draw(4, 6, 3), draw(4, 6, 3, seed=1)), None, None, 4),
    "a batch of one example": (
        SquaredError(batch_dims=0), (draw(4, 8, 5), draw(4, 8, 5, seed=1)), None, None, 4,
    ),
    "set": (PairwiseAuc(), (draw(4, 16), labels(2, 4, 16)), None, None, 4),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "batch_mean", "sum", "none"])
@pytest.mark.parametrize("name", UNEVEN)
def test_mapped_batches_have_the_results_that_they_have_alone(
    address: str, name: str, reduction: Any
) -> None:
    loss, inputs, weights, mask, calls = UNEVEN[name]
    if name == "set" and reduction != "mean":
        pytest.skip("a set has a mean alone")
    extras = {k: v for k, v in {"weights": weights, "mask": mask}.items() if v is not None}
    with Counting(address) as client:
        loss_fn = remote_loss(loss, client, reduction=reduction)

        def with_gradient(given: Any, extra: Any) -> Any:
            value, pull = jax.vjp(lambda x: loss_fn(x, *given[1:], **extra), given[0])
            return value, pull(jnp.ones_like(value))[0]

        found = jax.vmap(with_gradient)(inputs, extras)
        passes = 2 if reduction == "none" else 1
        if reduction != "mean" and name == "classes of weights":
            calls = 1
        if reduction == "mean" and name == "ctc":  # which scales each example first
            calls = 4
        assert client.batches == calls * passes
    with LossClient(address) as alone:
        for index in range(4):
            options = {key: value[index] for key, value in extras.items()}
            result = alone.compute(
                loss, *(np.asarray(given[index]) for given in inputs), reduction=reduction,
                **{key: np.asarray(value) for key, value in options.items()},
            )  # fmt: skip
            value = result.loss
            if reduction == "none":
                value = result.per_example * np.asarray(options.get("weights", 1))
            first = next(iter(result.gradients.values()))
            assert_close((found[0][index], found[1][index]), (value, first))


# How one of two batches may be empty: a loss of rows with labels 0 and 1, and weights or a mask.
EMPTIED: dict[str, tuple[Any, dict[str, Any]]] = {
    "weights": (CrossEntropy(), {"weights": jnp.array([[0.0] * 3, [1.0, 0.0, 2.0]])}),
    "elements' weights": (SquaredError(), {"weights": jnp.array([[0.0] * 3, [1.0, 0.0, 2.0]])}),
    "mask": (CrossEntropy(), {"mask": jnp.array([[False] * 3, [True, False, True]])}),
    "mask and weights": (
        CrossEntropy(),
        {
            "mask": jnp.array([[True, False, True], [True] * 3]),
            "weights": jnp.array([[0.0, 1.0, 0.0], [1.0] * 3]),
        },
    ),
    "classes of weights": (CrossEntropy(class_weights=[0, 1]), {}),
    "classes of weights in focus": (SoftmaxFocal(class_weights=[0, 1]), {}),
    "ignored": (CrossEntropy(ignore_index=0), {}),
    "nothing": (CrossEntropy(), {}),
}  # fmt: skip


def told(compute: Callable[[], Any]) -> Any:
    """Returns what a computation gives, or that it is refused for what is empty."""
    try:
        return [np.asarray(one).tolist() for one in jax.block_until_ready(compute())]
    except Exception as error:  # JAX has types of its own for what a callback raises
        if "examples must be kept and have weight" not in str(error):
            raise
        return "refused"


@pytest.mark.parametrize("normalizer", [None, 5.0])
@pytest.mark.parametrize("reduction", ["mean", "batch_mean", "sum", "none"])
@pytest.mark.parametrize("empty", ["zero", "nan", "error"])
@pytest.mark.parametrize("name", EMPTIED)
def test_a_mapped_batch_is_empty_where_it_is_alone(
    client: Counting, name: str, empty: Any, reduction: Any, normalizer: float | None
) -> None:
    loss, extras = EMPTIED[name]
    if normalizer is not None and reduction not in ("mean", "batch_mean"):
        pytest.skip("a mean alone has a divisor")
    logits, targets = draw(2, 3, 2), jnp.array([[0] * 3, [1, 0, 1]])
    if isinstance(loss, SquaredError):
        targets = jnp.eye(2)[targets]
    loss_fn = remote_loss(loss, client, reduction=reduction, empty=empty, normalizer=normalizer)

    def computed(given: Any, to: Any, extra: Any) -> Any:
        return loss_fn(given, to, **extra)

    batches = [jax.tree.map(lambda x, i=i: x[i], (logits, targets, extras)) for i in range(2)]
    alone = told(lambda: [computed(*batch) for batch in batches])
    found = told(lambda: jax.vmap(computed)(logits, targets, extras))
    np.testing.assert_equal(np.array(found), np.array(alone))
    if name != "nothing" and empty == "error":
        assert found == "refused"
    if name == "nothing":
        assert found != "refused"


def test_a_normalizer_divides_each_mapped_batch(client: Counting) -> None:
    logits, targets = draw(4, 8, 5), labels(5, 4, 8)
    loss_fn = remote_loss(CrossEntropy(), client, normalizer=16.0)
    found = jax.vmap(jax.value_and_grad(loss_fn))(logits, targets)
    assert_close(
        found,
        jax.vmap(jax.value_and_grad(lambda *x: cross_entropy(*x).sum() / 16))(logits, targets),
    )
    assert client.batches == 1


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", ["number", "one a batch", "one an example"])
def test_cotangents_and_normalizers_may_be_mapped(
    client: Counting, reduction: Any, kind: str
) -> None:
    logits, targets = draw(4, 8, 5), labels(5, 4, 8)
    cotangent, axis = {
        "number": (jnp.float32(3.0), None), "one a batch": (draw(4, seed=2), 0),
        "one an example": (draw(4, 8, seed=2), 0),
    }[kind]  # fmt: skip
    divisors = jnp.array([1.0, 2.0, 3.0, 0.5])
    loss_fn = remote_loss(CrossEntropy(), client, reduction=reduction)
    upstream = draw(8, seed=3) if reduction == "none" else 1.0

    def ours(given: Any, to: Any, own: Any, divisor: Any) -> Any:
        extra = {"normalizer": divisor} if reduction == "mean" else {}
        return (loss_fn(given, to, cotangent=own, **extra) * upstream).sum()

    def theirs(given: Any, to: Any, own: Any, divisor: Any) -> Any:
        by = divisor if reduction == "mean" else 1.0
        return (cross_entropy(given, to) * own * upstream / by).sum()

    axes = (0, 0, axis, 0)
    given = logits, targets, cotangent, divisors
    found = jax.jit(jax.vmap(jax.grad(ours), axes))(*given)
    assert_close(found, jax.vmap(jax.grad(theirs), axes)(*given))
    assert client.batches == 1
    value = jax.vmap(ours, axes)(*given)
    assert_close(value, jax.vmap(theirs, axes)(logits, targets, jnp.ones_like(cotangent), divisors))
    assert client.batches == 2


def test_a_mapped_normalizer_that_divides_nothing_is_refused(client: Counting) -> None:
    logits, targets = draw(2, 8, 5), labels(5, 2, 8)
    loss_fn = remote_loss(CrossEntropy(), client)
    mapped = jax.vmap(lambda x, to, divisor: loss_fn(x, to, normalizer=divisor))
    with pytest.raises(Exception, match=r"normalizer must be in \(0, inf\), got 0"):
        jax.block_until_ready(mapped(logits, targets, jnp.array([1.0, 0.0])))


def test_a_vector_without_values_of_examples_is_refused_in_words(client: Counting) -> None:
    loss_fn = remote_loss(PairwiseAuc(), client, reduction="none")
    with pytest.raises(Exception, match="reduction must be"):
        jax.block_until_ready(loss_fn(draw(16), labels(2, 16)))


# Losses whose tokens may be flat: the inputs of tokens, and those of sequences.
OF_TOKENS: dict[str, tuple[Any, tuple[str, ...], dict[str, Any]]] = {
    "dapo": (
        presets.dapo(), ("log_probabilities", "sampling_log_probabilities"),
        {"advantages": draw(3)},
    ),
    "dpo": (
        presets.dpo(),
        (
            "chosen_log_probabilities", "rejected_log_probabilities",
            "chosen_reference_log_probabilities", "rejected_reference_log_probabilities",
        ),
        {},
    ),
    "kto": (
        KahnemanTversky(beta=0.1, baseline=0.1),
        ("log_probabilities", "reference_log_probabilities"),
        {"desirable": jnp.array([1, 0, 1])},
    ),
    "bco": (
        presets.bco(shift=0.5), ("log_probabilities", "reference_log_probabilities"),
        {"desirable": jnp.array([1, 0, 1])},
    ),
    "values": (
        ClippedValue(clip_range=9.0, aggregation="TOKEN_AGGREGATION_SEQUENCE_MEAN"),
        ("values", "old_values", "returns"), {},
    ),
    "gkd": (presets.gkd("paper"), ("predictions", "targets"), {}),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", OF_TOKENS)
def test_a_vector_of_flat_sequences_is_that_of_padded_ones(
    client: Counting, name: str, *, compiled: bool
) -> None:
    loss, of_tokens, of_sequences = OF_TOKENS[name]
    sides = ("chosen_", "rejected_") if name == "dpo" else ("",)
    classes = (5,) if name == "gkd" else ()
    lengths, wrap = (2, 4, 1), jax.jit if compiled else lambda function: function
    padded = {key: draw(3, 4, *classes, seed=seed) for seed, key in enumerate(of_tokens)}
    kept = np.arange(4) < np.array(lengths)[:, None]
    flat = {key: array[kept] for key, array in padded.items()}
    first, upstream = of_tokens[0], jnp.array([1.0, -2.0, 0.5])
    loss_fn = remote_loss(loss, client, reduction="none")

    def both(given: Any, others: Any) -> Any:
        value, pull = jax.vjp(lambda x: loss_fn(**{**others, first: x}, **of_sequences), given)
        return value, pull(upstream)[0]

    masks = {f"{side}token_mask": jnp.asarray(kept) for side in sides}
    offsets = {f"{side}offsets": jnp.array([0, 2, 6, 7]) for side in sides}
    value, gradient = wrap(both)(padded[first], {**padded, **masks})
    found = wrap(both)(flat[first], {**flat, **offsets})
    assert value.shape == (3,)
    assert np.any(gradient)
    assert_close(found, (value, gradient[kept]))


def test_every_loss_whose_tokens_may_be_flat_has_its_vector_compared() -> None:
    may_be_flat = {
        loss.message
        for loss in LOSSES.values()
        if any(declared.name.endswith("offsets") for declared in loss.inputs)
    }
    assert may_be_flat == {loss.DESCRIPTOR.name for loss, *_ in OF_TOKENS.values()}


def test_losses_that_can_share_a_call_are_those_whose_shapes_say_so() -> None:
    shapes = {
        Shape.POINTWISE: ELEMENTS, Shape.ROWWISE: ROWS,
        Shape.VECTORS: INDEPENDENT, Shape.SEQUENCE: INDEPENDENT, Shape.REGIONWISE: INDEPENDENT,
    }  # fmt: skip
    for name, loss in LOSSES.items():
        assert (name in INDEPENDENT) == (loss.shape in shapes), name
        assert name in shapes.get(loss.shape, {name}), name
    assert frozenset(LOSSES) >= INDEPENDENT
