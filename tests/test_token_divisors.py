"""The divisors of means over tokens: any split of a batch has the gradients of the whole."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.backends.numpy import NumpyBackend
from lossd.client import presets
from lossd.engine import Engine, Result
from lossd.losses._maths.tokens import TokenAggregation
from lossd.reduction import Reduction
from tests.losses.case import Array
from tests.tokens import LOGS, drawn, run

ROWS, GROUP, LENGTH = 24, 4, 8


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(NumpyBackend(1))
    yield made
    made.close()


def message(aggregation: TokenAggregation) -> v1.PolicyGradient:
    made = presets.dapo()
    made.aggregation = getattr(v1, f"TOKEN_AGGREGATION_{aggregation.name}")
    if aggregation is TokenAggregation.CONSTANT_LENGTH:
        made.sequence_length = LENGTH
    return made


def batch(seed: int, aggregation: TokenAggregation = TokenAggregation.TOKEN_MEAN) -> dict[str, Any]:
    given = drawn(seed, ROWS, LENGTH)
    given.pop("reference_log_probabilities")
    given["token_mask"][5] = False  # a sequence without a token
    if aggregation is TokenAggregation.GROUP_MEAN:
        given["groups"] = np.arange(ROWS) // GROUP
    return given


def in_parts(
    engine: Engine, loss: v1.PolicyGradient, given: dict[str, Any], owner: Array, **options: Any
) -> tuple[float, Array, float]:
    """Loss, gradient and divisor that workers have together, each of which has some of the rows."""
    total, counted, gradient = 0.0, 0.0, np.zeros((ROWS, LENGTH))
    for worker in set(owner.tolist()):
        part = {name: array[owner == worker] for name, array in given.items()}
        found = run(engine, loss, part, **options)
        total += found.loss or 0.0
        counted += found.weight_sum
        gradient[owner == worker] = found.gradients[LOGS]
    return total, gradient, counted


@pytest.mark.parametrize("aggregation", TokenAggregation, ids=lambda one: one.name)
def test_random_splits_with_the_divisor_of_the_whole_have_its_gradients(
    engine: Engine, aggregation: TokenAggregation, *, whole: bool
) -> None:
    """Over 1 to 64 workers, each with some micro-batches, of which some get nothing.

    Groups stay together.  ``--whole`` tries a thousand splits of each aggregation.
    """
    given, loss = batch(3, aggregation), message(aggregation)
    together = run(engine, loss, given)
    rng = np.random.default_rng(4)
    for _ in range(1000 if whole else 50):
        parts = rng.integers(1, 65) * rng.integers(1, 5)
        owner = rng.integers(0, parts, ROWS)
        if aggregation is TokenAggregation.GROUP_MEAN:
            owner = np.repeat(rng.integers(0, parts, ROWS // GROUP), GROUP)
        total, gradient, counted = in_parts(
            engine, loss, given, owner, normalizer=together.weight_sum
        )
        assert total == pytest.approx(together.loss, rel=1e-13)
        assert counted == pytest.approx(together.weight_sum, rel=1e-15)
        np.testing.assert_allclose(gradient, together.gradients[LOGS], rtol=1e-13, atol=0)


@pytest.mark.parametrize("layout", ["padded", "lengths", "flat"])
@pytest.mark.parametrize("aggregation", TokenAggregation, ids=lambda one: one.name)
def test_a_sequence_without_weight_changes_no_other(
    engine: Engine, aggregation: TokenAggregation, layout: str
) -> None:
    """It stays an example: its tokens are among those that its group is divided by."""
    given, loss = batch(9, aggregation), message(aggregation)
    weights = np.where(np.arange(ROWS) % 3 == 1, 0.0, 1.5)
    if layout == "lengths":
        given["lengths"] = given.pop("token_mask").sum(axis=1)
    if layout == "flat":
        tokens = {name: given[name].reshape(-1) for name in (LOGS, "sampling_log_probabilities")}
        offsets = np.arange(ROWS + 1) * LENGTH
        given |= {**tokens, "token_mask": given["token_mask"].reshape(-1), "offsets": offsets}
    all_count = run(engine, loss, given, reduction=Reduction.SUM)
    found = run(engine, loss, given, reduction=Reduction.SUM, weights=weights)
    nearly = run(engine, loss, given, weights=np.where(weights == 0, 1e-200, weights))
    silent = weights == 0
    assert found.per_example is not None
    assert all_count.per_example is not None
    np.testing.assert_array_equal(found.per_example[~silent], all_count.per_example[~silent])
    assert not found.per_example[silent].any()
    shape = (ROWS, LENGTH)
    gradient, whole = (x.gradients[LOGS].reshape(shape) for x in (found, all_count))
    np.testing.assert_allclose(gradient, whole * weights[:, None], rtol=1e-15, atol=0)
    assert run(engine, loss, given, weights=weights).loss == pytest.approx(nearly.loss, rel=1e-13)


def test_lengths_without_weight_are_cut_to_what_there_may_be(engine: Engine) -> None:
    given, loss = batch(9, TokenAggregation.GROUP_MEAN), message(TokenAggregation.GROUP_MEAN)
    lengths = given.pop("token_mask").sum(axis=1)
    weights = np.ones(ROWS)
    weights[:2] = 0
    lengths[:2] = [-7, 1 << 40]
    wrong = run(engine, loss, {**given, "lengths": lengths}, weights=weights)
    lengths[:2] = [0, LENGTH]
    right = run(engine, loss, {**given, "lengths": lengths}, weights=weights)
    assert wrong.loss == right.loss


# ------------------------------------------------------------------ where others went wrong


def halves(given: dict[str, Any]) -> Array:
    """The longer half of the sequences for one worker, the shorter for another."""
    lengths = given["token_mask"].sum(axis=1)
    found: Array = (lengths > np.median(lengths)).astype(int)
    return found


def chosen(given: dict[str, Any]) -> Array:
    """Tokens that a selector keeps which looks at the whole batch: the nearer half of them."""
    apart = abs(given[LOGS] - given["sampling_log_probabilities"])
    found: Array = given["token_mask"] & (apart <= np.median(apart[given["token_mask"]]))
    return found


@pytest.mark.parametrize("keeps_the_divisor", [True, False])
def test_a_selection_over_the_whole_batch_survives_micro_batches(
    engine: Engine, *, keeps_the_divisor: bool
) -> None:
    """https://github.com/areal-project/AReaL/pull/1546: selected and divided by micro-batch.

    The selection is made once, and is a mask, or weights of 0 where the divisor is to stay.
    """
    given, loss = batch(5), message(TokenAggregation.TOKEN_MEAN)
    kept = chosen(given)
    name = "token_weights" if keeps_the_divisor else "token_mask"
    selected = {**given, name: kept.astype(float) if keeps_the_divisor else kept}
    whole = run(engine, loss, selected)
    expected = (given["token_mask"] if keeps_the_divisor else kept).sum()
    assert whole.weight_sum == expected
    owner = halves(given)
    total, gradient, _ = in_parts(engine, loss, selected, owner, normalizer=whole.weight_sum)
    assert total == pytest.approx(whole.loss, rel=1e-13)
    np.testing.assert_allclose(gradient, whole.gradients[LOGS], rtol=1e-13, atol=0)

    def by_micro_batch() -> float:
        """Selects in each part, and weights what it comes to by all of its tokens."""
        total = 0.0
        for part in (0, 1):
            rows = {n: a[owner == part] for n, a in given.items()}
            share = rows["token_mask"].sum() / given["token_mask"].sum()
            total += share * (run(engine, loss, {**rows, "token_mask": chosen(rows)}).loss or 0)
        return total

    assert abs(by_micro_batch() - (whole.loss or 0)) > 1e-3


def test_a_constant_length_does_not_scale_with_micro_batches(engine: Engine) -> None:
    """https://github.com/verl-project/verl/issues/3741: a sum over sequences where a mean belongs,
    and a length that is the width of the padded micro-batch."""
    given, loss = batch(6), message(TokenAggregation.CONSTANT_LENGTH)
    whole = run(engine, loss, given)
    costs = _costs(given)
    assert whole.loss == pytest.approx(costs.sum() / (ROWS * LENGTH), rel=1e-13)
    owner = halves(given)
    short = {n: a[owner == 0] for n, a in given.items()}
    width = int(short["token_mask"].sum(axis=1).max())
    narrow = {n: a[:, :width] if a.ndim == 2 else a for n, a in short.items()}
    assert width < LENGTH
    assert run(engine, loss, narrow).loss == run(engine, loss, short).loss
    twice = {n: np.concatenate([a, a]) for n, a in given.items()}
    assert run(engine, loss, twice).loss == pytest.approx(whole.loss, rel=1e-13)


def test_rejected_tokens_stay_in_the_divisor_and_masked_ones_do_not(engine: Engine) -> None:
    """https://github.com/THUDM/slime/pull/657: a weight of 0 left rejected tokens in the divisor.

    That fix masks them.  Here the caller says which of the two it shall be.
    """
    given, loss = batch(7), message(TokenAggregation.TOKEN_MEAN)
    kept = chosen(given)
    costs = _costs(given)
    rejected = run(engine, loss, {**given, "token_weights": kept.astype(float)})
    masked = run(engine, loss, {**given, "token_mask": kept})
    assert rejected.loss == pytest.approx(costs[kept].sum() / given["token_mask"].sum(), rel=1e-13)
    assert masked.loss == pytest.approx(costs[kept].sum() / kept.sum(), rel=1e-13)
    assert not rejected.gradients[LOGS][~kept].any()
    share = kept.sum() / given["token_mask"].sum()
    np.testing.assert_allclose(
        rejected.gradients[LOGS], masked.gradients[LOGS] * share, rtol=1e-13, atol=0
    )


def test_a_mean_of_tokens_is_that_of_the_mini_batch_and_not_of_micro_batches(
    engine: Engine,
) -> None:
    """https://github.com/NovaSky-AI/SkyRL/pull/1296: the mean of means is another number."""
    given, loss = batch(8), message(TokenAggregation.TOKEN_MEAN)
    whole = run(engine, loss, given)
    owner = halves(given)
    total, gradient, counted = in_parts(engine, loss, given, owner, normalizer=whole.weight_sum)
    of_means, by_means, _ = in_parts(engine, loss, given, owner)
    assert counted == given["token_mask"].sum()
    assert total == pytest.approx(whole.loss, rel=1e-13)
    np.testing.assert_allclose(gradient, whole.gradients[LOGS], rtol=1e-13, atol=0)
    assert abs(of_means / 2 - (whole.loss or 0)) > 1e-3
    assert not np.allclose(by_means / 2, whole.gradients[LOGS], rtol=1e-2)


def _costs(given: dict[str, Any]) -> Array:
    """DAPO's loss of each token, 0 for one that does not count."""
    ratios = np.exp(given[LOGS] - given["sampling_log_probabilities"])
    advantages = given["advantages"][:, None]
    worse = np.minimum(ratios * advantages, np.clip(ratios, 0.8, 1.28) * advantages)
    found: Array = np.where(given["token_mask"], -worse, 0)
    return found


def test_fractions_of_weights_are_not_cut_off(engine: Engine) -> None:
    found: Result = run(
        engine,
        presets.reinforce(),
        {LOGS: [[-1.0, -2.0]], "advantages": [1.0], "token_weights": [[0.25, 0.5]]},
    )
    assert found.loss == 1.25
