"""Losses of embeddings: what is known of single ones, and what others get wrong."""

import itertools
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter, InvalidRequest, TooLarge
from lossd.losses import LOSSES, Distance, Status
from lossd.losses.batch_triplet import BatchTripletOutput, Mining
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes.coupled import MAX_COMPARED
from tests.losses.case import Case, Form, values
from tests.oracles import coupled_slope

Array = npt.NDArray[Any]

FLOATS = (np.float16, np.float32, np.float64)


def _run(engine: Engine, loss: str, parameters: Any = (), **inputs: Any) -> Result:
    declared = LOSSES[loss]
    given = {name: [np.asarray(array)] for name, array in inputs.items()}
    wanted = [i.name for i in declared.inputs if i.name in given and i.differentiable.value != "no"]
    job = Job(
        loss=declared,
        parameters=dict(parameters),
        inputs=given,
        gradients=wanted,
        reduction=Reduction.SUM,
    )
    return engine.run(job)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_true_loss_of_200_is_200(engine: Engine, dtype: type) -> None:
    """An epsilon in the logarithm would cap it near 87 in float32 and 10 in float16."""
    queries, keys = np.eye(2, 4), np.eye(2, 4)
    keys[0] *= -1  # as far as can be, and the negative is the query itself
    negatives = queries[:1]
    result = _run(
        engine,
        "info_nce",
        {"temperature": 0.01},
        queries=queries[:1].astype(dtype),
        keys=keys[:1].astype(dtype),
        negatives=negatives.astype(dtype),
    )
    assert result.loss == pytest.approx(200, rel=1e-6)
    derivatives = _run(
        engine,
        "info_nce",
        {"temperature": 0.01, "normalize": False},
        queries=queries[:1].astype(dtype),
        keys=keys[:1].astype(dtype),
        negatives=negatives.astype(dtype),
    ).gradients
    assert derivatives["keys"][0, 0] == pytest.approx(-100, rel=1e-3)


def test_a_sure_query_keeps_value_and_gradient(engine: Engine) -> None:
    """exp(-40) is far below the rounding of 1 in float32."""
    row = np.array([[1.0, 0.0]], np.float32)
    result = _run(
        engine,
        "info_nce",
        {"temperature": 0.05},
        queries=row,
        keys=row,
        negatives=np.array([[-1.0, 1e-3]], np.float32),
    )
    assert result.loss == pytest.approx(np.exp(-40), rel=1e-4, abs=0)
    assert result.gradients["negatives"][0, 1] != 0


@pytest.mark.parametrize("name", ["cosine_embedding", "contrastive"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_vectors_of_zeros_are_similar_to_nothing(engine: Engine, name: str, dtype: type) -> None:
    """Others return gradients of 1e6 to 1e12, or NaN."""
    zeros: Array = np.zeros((3, 4), dtype)
    ones: Array = np.ones((3, 4), dtype)
    parameters = {"distance": Distance.COSINE} if name == "contrastive" else {}
    for left, right in ((zeros, ones), (ones, zeros), (zeros, zeros)):
        result = _run(engine, name, parameters, left=left, right=right, targets=[1, 1, 1])
        assert result.per_example is not None
        assert (result.per_example == 1).all()
        assert set(result.statuses.numbers.tolist()) == {Status.ZERO_NORM}
        for gradient in result.gradients.values():
            assert (gradient == 0).all()


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_vectors_of_any_length_have_a_cosine(engine: Engine, size: float) -> None:
    left = np.array([[3.0, 4.0]], np.float32) * np.float32(size)
    right = np.array([[4.0, 3.0]], np.float32) / np.float32(size)
    result = _run(engine, "cosine_embedding", left=left, right=right, targets=[1])
    assert result.loss == pytest.approx(0.04, rel=1e-5)
    derivative = np.array([-28, 21]) / 625
    np.testing.assert_allclose(
        result.gradients["left"][0] * np.float64(size), derivative, rtol=1e-5
    )


@pytest.mark.parametrize("size", [1.7e308, 5e-324])
def test_the_largest_and_the_smallest_numbers_have_a_cosine(engine: Engine, size: float) -> None:
    """Their length is no number of the type, or one of few digits."""
    if engine.backend.name == "cupy" and size < np.finfo(np.float64).tiny:
        pytest.skip("a device may take subnormal numbers for 0")
    left, right = np.array([[size, size]]), np.array([[1.0, 0.0]])
    result = _run(engine, "cosine_embedding", left=left, right=right, targets=[1])
    assert result.loss == pytest.approx(1 - 0.5**0.5, rel=1e-15)
    derivative = [0.0, -(0.5**0.5)]
    np.testing.assert_allclose(result.gradients["right"][0], derivative, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("margin", [1.0, -1.0])
def test_the_cosine_of_vectors_along_one_line_is_one(engine: Engine, margin: float) -> None:
    left = np.random.default_rng(0).standard_normal((200, 7))
    given = {"left": left, "right": 2 * margin * left, "targets": np.full(200, -1)}
    result = _run(engine, "cosine_embedding", {"margin": margin}, **given)
    assert (values(result) == 0).all()
    for gradient in result.gradients.values():
        assert (gradient == 0).all()


def test_a_small_cosine_keeps_its_digits(engine: Engine) -> None:
    given = {"left": [[1.0, 1e-12]], "right": [[0.0, 3.0]], "targets": [-1]}
    result = _run(engine, "cosine_embedding", **given)
    assert result.loss == pytest.approx(1e-12, rel=1e-14, abs=0)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e200, 1e-200])
@pytest.mark.parametrize("mining", Mining)
def test_distances_of_any_size_are_distances(engine: Engine, size: float, mining: Mining) -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0], [0.0, 4.0]]) * size
    if size in (1e30, 1e-30):
        points = points.astype(np.float32)
    result = _run(
        engine,
        "batch_triplet",
        {"mining": mining, "margin": 0.0},
        embeddings=points,
        labels=[0, 0, 1, 1],
    )
    # From point 0: the positive at 5, negatives at 2 and 4; from 1: 5, and sqrt 13 and 3.
    first = {Mining.HARD: 3.0, Mining.SEMI_HARD: 1.0, Mining.ALL: 2.0}[mining]
    assert result.per_example is not None
    assert result.per_example[0] / size == pytest.approx(first, rel=1e-6)
    assert np.isfinite(result.gradients["embeddings"]).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("distance", Distance)
def test_identical_points_are_worth_the_margin(
    engine: Engine, dtype: type, distance: Distance
) -> None:
    same: Array = np.full((4, 3), 0.1, dtype)
    one = _run(engine, "triplet", {"distance": distance}, anchor=same, positive=same, negative=same)
    for mining in Mining:
        many = _run(
            engine,
            "batch_triplet",
            {"distance": distance, "mining": mining},
            embeddings=same,
            labels=[0, 0, 1, 1],
        )
        for result in (one, many):
            assert result.loss == pytest.approx(4, rel=1e-6)
            for gradient in result.gradients.values():
                assert (gradient == 0).all()


@pytest.mark.parametrize("distance", Distance)
def test_points_that_are_one_are_as_far_wherever_they_stand(
    engine: Engine, distance: Distance
) -> None:
    """Libraries multiply the last columns of a matrix in another way than the others."""
    for rows, length in itertools.product((242, 247, 254), (32, 250)):
        points = np.random.default_rng(0).standard_normal((5, length))[np.arange(rows) % 5]
        result = _run(
            engine,
            "batch_triplet",
            {"distance": distance, "outputs": tuple(BatchTripletOutput)},
            embeddings=points,
            labels=np.arange(rows) // 5 % 2,
        )
        for output in result.outputs.values():
            assert output.max() < 15, (rows, length)  # of equals the first


@pytest.mark.parametrize("mining", Mining)
def test_a_point_that_is_nowhere_is_not_far(engine: Engine, mining: Mining) -> None:
    points = np.array([[0.0], [1.0], [3.0], [np.nan]])
    given = {"embeddings": points, "labels": [0, 0, 1, 1]}
    result = _run(engine, "batch_triplet", {"mining": mining}, **given)
    assert np.isnan(values(result)).all()
    assert result.nonfinite_examples.tolist() == [0, 1, 2, 3]


def test_an_example_that_is_zeroed_is_so_whole(engine: Engine) -> None:
    """One component of its gradient is too large for float16, another is not."""
    points = np.array([[6e-8, 0, 0], [0, 1, 1e-6], [1, 0, 0]], np.float16)
    job = Job(
        loss=LOSSES["nt_xent"],
        parameters={},
        inputs={"embeddings": [points], "labels": [np.array([0, 0, 1])]},
    )
    gradient = engine.run(job).gradients["embeddings"]
    assert np.isinf(gradient[0, 1])
    assert np.isfinite(gradient[0, 2])
    assert gradient[0, 2] != 0
    zeroed = engine.run(replace(job, nonfinite=NonfinitePolicy.ZERO))
    assert (zeroed.gradients["embeddings"][0] == 0).all()
    assert values(zeroed)[0] == 0
    assert zeroed.nonfinite_examples.tolist() == [0]


@pytest.mark.parametrize("wanted", ["negatives", "temperature"])
def test_a_gradient_of_no_example_that_is_not_finite_is_seen(engine: Engine, wanted: str) -> None:
    job = Job(
        loss=LOSSES["info_nce"],
        parameters={"temperature": 1e-200},
        inputs={
            "queries": [np.array([[1.0, 0.0]])],
            "keys": [np.array([[-1.0, 0.0]])],
            "negatives": [np.array([[1e-120, 1e-120]])],
        },
        gradients=[wanted],
        reduction=Reduction.SUM,
    )
    result = engine.run(job)
    assert np.isfinite(values(result)).all()
    assert not np.isfinite(result.gradients[wanted]).all()
    assert (result.status, len(result.nonfinite_examples)) == (Status.NONFINITE, 0)
    zeroed = engine.run(replace(job, nonfinite=NonfinitePolicy.ZERO))
    assert np.isfinite(zeroed.gradients[wanted]).all()
    assert zeroed.loss == result.loss
    with pytest.raises(InvalidRequest, match="info_nce must be finite with its gradients, got"):
        engine.run(replace(job, nonfinite=NonfinitePolicy.ERROR))


def test_a_large_bias_leaves_the_slope_by_the_temperature(engine: Engine) -> None:
    """Similarities that the bias was added to have lost their digits."""
    queries, keys = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    job = Job(
        loss=LOSSES["sigmoid_contrastive"],
        parameters={"bias": 1e8, "normalize": False, "temperature": 0.5},
        inputs={"queries": [queries], "keys": [keys]},
        gradients=["temperature"],
        reduction=Reduction.SUM,
    )
    # All pairs but those that belong together are as wrong as can be.
    similarities = queries.astype(float) @ keys.T.astype(float)
    derivative = -(similarities.sum() - similarities.trace()) / 0.5**2
    assert engine.run(job).gradients["temperature"] == pytest.approx(derivative, rel=1e-4)


def test_near_points_keep_their_distance(engine: Engine) -> None:
    """Far from the origin, where the squares of the lengths hide it."""
    points = np.float32(1000) + np.array([[0], [1], [2], [4]], np.float32) * np.float32(2**-13)
    result = _run(engine, "batch_triplet", {"margin": 0.0}, embeddings=points, labels=[0, 0, 1, 0])
    assert result.per_example is not None
    np.testing.assert_array_equal(result.per_example[[0, 1, 3]] * 2**13, [2, 2, 2])
    assert abs(result.gradients["embeddings"]).max() <= 4


@pytest.mark.parametrize("away", [10, 1e2, 1e3, 1e4, 1e6])
@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 1e-6), (np.float64, 1e-13)])
def test_a_cluster_keeps_its_distances_however_far_away(
    engine: Engine, away: float, dtype: type, rounding: float
) -> None:
    center, *around = np.random.default_rng(0).standard_normal((7, 64))
    given_points = (away * center + around).astype(dtype)
    points = given_points.astype(np.float64)
    given = {"embeddings": given_points, "labels": [0, 0, 0, 1, 1, 1]}
    result = _run(engine, "batch_triplet", {"margin": 10.0}, **given)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    expected = 10 + distances[:3, :3].max(axis=1) - distances[:3, 3:].min(axis=1)
    np.testing.assert_allclose(values(result)[:3], expected, rtol=rounding)


@pytest.mark.parametrize("distance", [Distance.EUCLIDEAN, Distance.SQUARED_EUCLIDEAN])
@pytest.mark.parametrize("mining", Mining)
@pytest.mark.parametrize("size", [1e-4, 1e-9, 1e-13])
def test_points_that_are_near_keep_the_digits_of_their_slopes(
    engine: Engine, mining: Mining, distance: Distance, size: float
) -> None:
    """Two clusters, so that no origin is near to both."""
    rng = np.random.default_rng(0)
    centers = np.repeat(rng.standard_normal((2, 3)), 4, axis=0)
    case = Case(
        LOSSES["batch_triplet"],
        {"mining": mining, "distance": distance, "margin": size * size},
        Form.FLOATS,
        {"embeddings": centers + size * rng.standard_normal((8, 3)), "labels": np.arange(8) % 2},
    )
    gradient = engine.run(case.job(reduction=Reduction.SUM)).gradients["embeddings"]
    ways = np.eye(gradient.size).reshape(-1, *gradient.shape)
    derivatives = [coupled_slope(case, "embeddings", np.ones(8), way) for way in ways]
    expected = np.reshape(derivatives, gradient.shape)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13 * abs(expected).max())


@pytest.mark.parametrize(("anchor", "value"), [([[0.0]], 0.0), ([[0.25]], 0.5), ([[-0.25]], 0.0)])
def test_the_gradient_at_the_kink_of_a_triplet_is_zero(
    engine: Engine, anchor: Any, value: float
) -> None:
    parameters = {"eps": 0.0, "margin": 1.0}
    result = _run(engine, "triplet", parameters, anchor=anchor, positive=[[-1.0]], negative=[[2.0]])
    assert result.loss == value
    if value == 0:
        for gradient in result.gradients.values():
            assert (gradient == 0).all()


def test_of_two_equal_ways_to_a_negative_the_anchors_counts(engine: Engine) -> None:
    given = {"anchor": [[-1.0, 0.0]], "positive": [[1.0, 0.0]], "negative": [[0.0, 2.0]]}
    result = _run(engine, "triplet", {"swap": True, "margin": 3.0, "eps": 0.0}, **given)
    assert result.loss == pytest.approx(5 - 5**0.5, rel=1e-15)
    assert result.gradients["positive"].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("name", ["anchor", "positive", "negative"])
@pytest.mark.parametrize("swap", [False, True])
def test_a_triplet_with_a_vector_of_zeros_has_a_status(
    engine: Engine, name: str, *, swap: bool
) -> None:
    given = {one: np.array([[1.0, 2.0], [3.0, 1.0]]) for one in ("anchor", "positive", "negative")}
    given[name][1] = 0
    parameters = {"distance": Distance.COSINE, "swap": swap, "margin": 3.0}
    result = _run(engine, "triplet", parameters, **given)
    assert result.statuses.indices.tolist() == [1]
    assert result.statuses.numbers.tolist() == [Status.ZERO_NORM]
    assert (result.gradients[name][1] == 0).all()


@pytest.mark.parametrize("mining", Mining)
def test_the_gradient_at_the_kink_of_a_batch_is_zero(engine: Engine, mining: Mining) -> None:
    given = {"embeddings": [[-5.0, 0.0], [5.0, 0.0], [0.0, 12.0]], "labels": [0, 0, 1]}
    result = _run(engine, "batch_triplet", {"mining": mining, "margin": 3.0}, **given)
    assert result.loss == 0  # 3 + 10 - 13
    assert (result.gradients["embeddings"] == 0).all()


@pytest.mark.parametrize(
    ("loss", "parameters", "words"),
    [
        ("triplet", {"p": 3.0, "distance": Distance.COSINE}, "p must be 2 unless .*, got 3"),
        (
            "triplet",
            {"eps": 0.5, "distance": Distance.COSINE},
            "eps must be 1e-06 with .*, got 0.5",
        ),
        (
            "info_nce",
            {"in_batch_negatives": False},
            "in_batch_negatives must be true .*, got false",
        ),
        ("info_nce", {"temperature": 0.0}, r"temperature must be in \(0, inf\), got 0"),
    ],
)
def test_parameters_that_do_not_go_together(
    engine: Engine, loss: str, parameters: Any, words: str
) -> None:
    given = {i.name: np.ones((2, 3)) for i in LOSSES[loss].inputs if not i.is_optional}
    with pytest.raises(InvalidParameter, match=words):
        _run(engine, loss, parameters, **given)


def test_a_symmetric_loss_goes_without_negatives(engine: Engine) -> None:
    ones = np.ones((2, 3))
    with pytest.raises(InvalidParameter, match="symmetric must be false with negatives, got true"):
        _run(engine, "info_nce", {"symmetric": True}, queries=ones, keys=ones, negatives=ones)


def _large(loss: str, rows: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        declared.name: rng.integers(0, 8, rows)
        if declared.name == "labels"
        else rng.standard_normal((rows, length), np.float32)
        for declared in LOSSES[loss].inputs
        if not declared.is_optional
    }


COUPLED = [
    ("info_nce", {}),
    ("info_nce", {"symmetric": True}),
    ("nt_xent", {}),
    ("supervised_contrastive", {}),
    ("sigmoid_contrastive", {}),
    ("batch_triplet", {"mining": Mining.HARD}),
    ("batch_triplet", {"mining": Mining.ALL}),
    ("batch_triplet", {"mining": Mining.SEMI_HARD}),
]


def _peak_bytes(loss: str, parameters: Any, rows: int) -> int:
    inputs = _large(loss, rows, 8)
    engine = Engine(NumpyBackend(1))
    tracemalloc.start()
    try:
        _run(engine, loss, parameters, **inputs)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        engine.backend.close()


@pytest.mark.parametrize(("loss", "parameters"), COUPLED[:6])
def test_memory_does_not_grow_with_the_square_of_the_batch(loss: str, parameters: Any) -> None:
    small, large = (_peak_bytes(loss, parameters, rows) for rows in (1200, 3600))
    assert large < 3.5 * small


@pytest.mark.parametrize(("loss", "parameters"), COUPLED)
def test_threads_change_no_bit_of_panels(loss: str, parameters: Any) -> None:
    inputs, results = _large(loss, 1100, 24), []
    for threads in (1, 3):
        engine = Engine(NumpyBackend(threads))
        results.append(_run(engine, loss, parameters, **inputs))
        engine.backend.close()
    for result in results[1:]:
        assert result.loss == results[0].loss
        for name, gradient in result.gradients.items():
            assert gradient.tobytes() == results[0].gradients[name].tobytes()


@pytest.mark.parametrize(("loss", "parameters"), COUPLED)
def test_panels_are_right_where_they_meet(loss: str, parameters: Any) -> None:
    """The first anchors alone, with weights, need one panel; all of them, two or more."""
    rows = 1100
    inputs = _large(loss, rows, 6)
    engine = Engine(NumpyBackend(2))
    double = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
    single, exact = (_run(engine, loss, parameters, **given) for given in (inputs, double))
    engine.backend.close()
    assert single.per_example is not None
    assert exact.per_example is not None
    np.testing.assert_allclose(single.per_example, exact.per_example, rtol=2e-5, atol=2e-5)
    for name, gradient in single.gradients.items():
        scale = abs(exact.gradients[name]).max()
        np.testing.assert_allclose(gradient, exact.gradients[name], rtol=0, atol=1e-5 * scale)


def test_panels_of_many_columns_are_lower(engine: Engine) -> None:
    """Two of them here, of what would be one of fewer columns."""
    random = np.random.default_rng(0)
    queries, keys = random.standard_normal((2, 900, 2))
    negatives = random.standard_normal((40_000, 2))
    parameters = {"in_batch_negatives": False, "normalize": False, "temperature": 1.0}
    result = _run(
        engine,
        "info_nce",
        parameters,
        **{n: a.astype("f4") for n, a in (("queries", queries), ("keys", keys))},
        negatives=negatives.astype("f4"),
    )
    own = (queries * keys).sum(axis=1)
    expected = np.log1p(np.exp(queries @ negatives.T - own[:, None]).sum(axis=1))
    np.testing.assert_allclose(values(result), expected, rtol=1e-5)


def test_more_vectors_than_can_be_compared_are_refused(engine: Engine) -> None:
    many = np.zeros((MAX_COMPARED + 1, 1), np.float16)
    with pytest.raises(TooLarge, match="embeddings must be at most 1048576 vectors to compare"):
        _run(engine, "nt_xent", embeddings=many, labels=np.zeros(len(many), int))
    with pytest.raises(TooLarge, match="negatives must be at most 1048576 vectors"):
        _run(engine, "info_nce", queries=many[:2], keys=many[:2], negatives=many)


@pytest.mark.parametrize("is_masked", [False, True])
def test_no_vectors_of_its_own_are_as_good_as_no_negatives(
    engine: Engine, *, is_masked: bool
) -> None:
    queries, keys = np.random.default_rng(1).normal(size=(2, 3, 4))
    jobs = [
        Job(
            loss=LOSSES["info_nce"],
            parameters={},
            inputs={name: [array] for name, array in given.items()},
            mask=np.array([True, False, True]) if is_masked else None,
            gradients=list(given),
        )
        for given in (
            {"queries": queries, "keys": keys},
            {"queries": queries, "keys": keys, "negatives": np.empty((3, 0, 4))},
        )
    ]
    without, with_none = map(engine.run, jobs)
    assert with_none.loss == without.loss
    assert with_none.gradients["negatives"].shape == (3, 0, 4)
    for name, gradient in without.gradients.items():
        np.testing.assert_array_equal(with_none.gradients[name], gradient)
