"""Losses of sequences: what holds for every loss, and what lengths and labels add to it."""

from collections.abc import Sequence
from itertools import product
from time import process_time
from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import DOMAINS, LOSSES, DistributionKind, Loss, Shape, Status
from lossd.losses._maths.ctc_arrivals import FAINTEST
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes.sequence import SEQUENCE_BLOCK_ELEMENTS
from tests.losses.case import Case, total, values
from tests.losses.compare import Array, assert_close, assert_same_bits, assert_zero
from tests.losses.test_gradients import (  # noqa: F401 - of sequences here
    test_a_cotangent_scales_gradients_and_not_the_loss,
    test_gradient_is_the_derivative_of_the_value,
    test_gradients_are_those_that_were_asked_for,
)
from tests.losses.test_layout import (  # noqa: F401 - of sequences here
    test_inputs_are_not_written_to_and_results_are_new,
    test_strides_and_byte_order_of_the_memory_do_not_matter,
)
from tests.losses.test_rows import (  # noqa: F401 - of sequences here
    test_a_masked_or_weightless_row_may_hold_anything,
    test_a_row_has_the_same_bits_alone_with_any_parameters,
)
from tests.losses.test_values import (  # noqa: F401 - of sequences here
    test_hand_worked_examples_hold,
    test_values_and_gradients_equal_the_independent_formula,
)
from tests.oracles import oracle_gradients, oracle_values
from tests.sampling import cases, members, plain

SEQUENCES = [loss for loss in LOSSES.values() if loss.shape is Shape.SEQUENCE]


@pytest.fixture(params=SEQUENCES, ids=lambda loss: loss.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Here it is of sequences."""
    found: Loss = request.param
    return found


def _names(loss: Loss) -> tuple[str, ...]:
    return tuple(declared.name for declared in loss.inputs)


def test_what_lies_beyond_a_length_is_not_looked_at(engine: Engine, loss: Loss) -> None:
    frames, labels, times, counts = _names(loss)
    for case in cases(loss, rows=20):
        expected = engine.run(case.job())
        given = case.inputs
        late = np.arange(given[frames].shape[1]) >= given[times][:, None]
        unread = np.arange(given[labels].shape[1]) >= given[counts][:, None]
        assert late.any()
        assert unread.any()
        for poison, label in ((np.nan, -1), (-np.inf, 2**40), (np.inf, -(2**63))):
            spoilt = case.with_inputs(
                **{
                    frames: np.where(late[:, :, None], poison, given[frames]),
                    labels: np.where(unread, label, given[labels]),
                }
            )
            result = engine.run(spoilt.job())
            assert result.loss == expected.loss
            assert_same_bits(values(result), values(expected), case)
            assert_same_bits(result.gradients[frames], expected.gradients[frames], case)
            assert_zero(result.gradients[frames][late], case)


def test_frames_are_probabilities_in_their_form(engine: Engine, loss: Loss) -> None:
    frames, _, times, _ = _names(loss)
    for kind, wrong in (
        (DistributionKind.LOG_PROBABILITIES, 0.5),
        (DistributionKind.PROBABILITIES, 1.5),
    ):
        case = next(c for c in cases(loss) if c.parameters.get("prediction_kind") is kind)
        given = case.inputs[frames].copy()
        given[2, 1, 0] = wrong
        bad = case.with_inputs(**{frames: given})
        with pytest.raises(InvalidTensor) as caught:
            engine.run(bad.job())
        assert f"{frames}[2, 1, 0] must be in {DOMAINS[kind]}, got {wrong}" in str(caught.value)
        shorter = np.minimum(case.inputs[times], 1)
        assert engine.run(bad.with_inputs(**{times: shorter}).job()).example_count
        assert engine.run(bad.job(mask=np.arange(case.count) != 2)).ignored_count


def test_lengths_that_are_not_given_are_all_there_is(engine: Engine, loss: Loss) -> None:
    frames, labels, times, counts = _names(loss)
    case = plain(loss)
    full = case.with_inputs(
        **{
            times: np.full(case.count, case.inputs[frames].shape[1]),
            counts: np.full(case.count, case.inputs[labels].shape[1]),
        }
    )
    bare = Case(loss, {}, case.form, {name: case.inputs[name] for name in (frames, labels)})
    assert engine.run(bare.job()).loss == engine.run(full.job()).loss


@pytest.mark.parametrize(("position", "end"), [(2, 6), (3, 4)])
def test_lengths_out_of_range_are_named(
    engine: Engine, loss: Loss, position: int, end: int
) -> None:
    case, name = plain(loss), _names(loss)[position]
    for wrong in (-1, end, 2**40, -(2**63)):
        lengths = case.inputs[name].copy()
        lengths[3:] = wrong
        bad = case.with_inputs(**{name: lengths})
        with pytest.raises(InvalidTensor) as caught:
            engine.run(bad.job())
        assert f"{name}[3] must be in [0, {end}), got {wrong}" in str(caught.value)
        kept = engine.run(bad.job(mask=np.arange(7) < 3))
        assert kept.example_count == 3
    for wrong_type in (case.inputs[name].astype(float), case.inputs[name] > 0):
        with pytest.raises(InvalidTensor, match=f"{name} must be integers, got "):
            engine.run(case.with_inputs(**{name: wrong_type}).job())
    with pytest.raises(InvalidTensor, match=rf"{name} must have the shape \[7\], got \[6\]"):
        engine.run(case.with_inputs(**{name: case.inputs[name][:6]}).job())


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_blanks_and_labels_out_of_range_are_named(engine: Engine, loss: Loss, blank: int) -> None:
    labels, counts = _names(loss)[1], _names(loss)[-1]
    drawn = plain(loss)
    for wrong in (blank, 3, -1, 2**62, -(2**63)):
        given = np.full(drawn.inputs[labels].shape, (blank + 1) % 3)
        given[2, 1] = wrong
        case = Case(loss, {"blank": blank}, drawn.form, {**drawn.inputs, labels: given})
        case = case.with_inputs(**{counts: np.full(7, 2)})
        index = 2 * drawn.inputs[labels].shape[1] + 1
        with pytest.raises(InvalidTensor) as caught:
            engine.run(case.job())
        assert f"{labels}[2, 1] must be in [0, 3)" in str(caught.value)
        assert caught.value.details["index"] == str(index)
        assert engine.run(case.with_inputs(**{counts: np.full(7, 1)}).job()).example_count == 7
        assert engine.run(case.job(weights=(np.arange(7) != 2) * 1.0)).example_count == 7
    bad = Case(loss, {"blank": 3}, drawn.form, drawn.inputs)
    with pytest.raises(InvalidParameter, match=r"blank must be in \[0, 3\), got 3"):
        engine.run(bad.job())


def test_shapes_are_of_frames_and_labels(engine: Engine, loss: Loss) -> None:
    frames, labels, *_ = _names(loss)
    case = plain(loss)
    wrong_shapes: dict[str, list[tuple[int, ...]]] = {
        frames: [(7, 5), (7, 5, 0), ()],
        labels: [(7,), (6, 3)],
    }
    for name, shape in ((n, s) for n, shapes in wrong_shapes.items() for s in shapes):
        wrong = np.zeros(shape, case.inputs[name].dtype)
        with pytest.raises(InvalidTensor, match=f"{name} must have .*, got "):
            engine.run(case.with_inputs(**{name: wrong}).job())


def test_a_mean_divides_by_the_labels_of_each_row_first(engine: Engine, loss: Loss) -> None:
    case = plain(loss, rows=40)
    factor = 1 / np.maximum(case.inputs[_names(loss)[3]], 1)
    weights, kept = np.linspace(0, 2, 40), np.arange(40) % 3 > 0
    alone = engine.run(case.job(reduction=Reduction.NONE))
    share = weights * factor * kept / (weights * kept).sum()
    result = engine.run(case.job(weights=weights, mask=kept))
    assert total(result) == pytest.approx((share * values(alone)).sum(), rel=1e-12)
    assert result.loss_sum == pytest.approx(total(result) * result.weight_sum, rel=1e-12)
    assert result.weight_sum == pytest.approx((weights * kept).sum())
    name = loss.inputs[0].name
    np.testing.assert_allclose(
        result.gradients[name], share[:, None, None] * alone.gradients[name], rtol=1e-12
    )
    normalized = engine.run(case.job(normalizer=8.0))
    assert total(normalized) == pytest.approx((factor * values(alone)).sum() / 8, rel=1e-12)
    batch = engine.run(case.job(reduction=Reduction.BATCH_MEAN))
    assert total(batch) == pytest.approx(values(alone).mean(), rel=1e-12)


def _job(loss: Loss, frames: Array, labels: Any, **parameters: Any) -> Case:
    """Rows of one length."""
    given = dict(zip(_names(loss), (np.asarray(frames), np.asarray(labels)), strict=False))
    return Case(loss, parameters, plain(loss).form, given)


def test_rows_with_too_few_frames_say_so(engine: Engine, loss: Loss) -> None:
    """Two equal labels take three frames."""
    rng = np.random.default_rng(3)
    times, counts = _names(loss)[2:]
    case = _job(loss, rng.normal(size=(6, 3, 3)), [[1, 1], [1, 1], [1, 2], [1, 2], [1, 1], [1, 2]])
    case = case.with_inputs(
        **{times: np.array([3, 2, 2, 1, 0, 0]), counts: np.array([2, 2, 2, 2, 0, 1])}
    )
    impossible = np.array([False, True, False, True, False, True])
    result = engine.run(case.job(reduction=Reduction.NONE))
    assert result.statuses.indices.tolist() == np.flatnonzero(impossible).tolist()
    assert set(result.statuses.numbers.tolist()) == {Status.INFEASIBLE}
    assert_zero(values(result)[impossible])
    assert values(result)[4] == 0, "no frame and no label is certain"
    assert (values(result)[[0, 2]] > 0).all()
    for gradient in result.gradients.values():
        assert_zero(gradient[impossible | (np.arange(6) == 4)])
    assert result.example_count == 6
    infinite = Case(loss, {"zero_infinity": False}, case.form, case.inputs)
    shown = engine.run(infinite.job(reduction=Reduction.NONE))
    assert (values(shown)[impossible] == np.inf).all()
    assert set(shown.statuses.numbers.tolist()) == {Status.INFEASIBLE}
    assert shown.nonfinite_examples.tolist() == np.flatnonzero(impossible).tolist()
    assert_same_bits(values(shown)[~impossible], values(result)[~impossible])


def test_no_frames_and_no_labels_at_all(engine: Engine, loss: Loss) -> None:
    """Without labels all frames have to be blank; without frames there can be none."""
    frames = np.random.default_rng(7).normal(size=(3, 4, 3))
    blank = _job(loss, frames, np.zeros((3, 0), int), blank=2)
    result = engine.run(blank.job(reduction=Reduction.NONE))
    total_scores = np.log(np.exp(frames).sum(axis=-1))
    np.testing.assert_allclose(values(result), (total_scores - frames[..., 2]).sum(axis=-1))
    bare = _job(loss, frames[:, :0], np.zeros((3, 0), int))
    result = engine.run(bare.job(reduction=Reduction.NONE))
    assert_zero(values(result))
    assert not len(result.statuses.indices)
    impossible = engine.run(_job(loss, frames[:, :0], [[1], [2], [1]]).job())
    assert set(impossible.statuses.numbers.tolist()) == {Status.INFEASIBLE}
    assert impossible.loss == 0
    for some in (result, impossible):
        assert [g.shape for g in some.gradients.values()] == [(3, 0, 3)]


def test_what_is_not_finite_is_seen_in_its_row_alone(engine: Engine, loss: Loss) -> None:
    frames, labels = np.random.default_rng(8).normal(size=(4, 5, 3)), [[1, 2]] * 4
    clean = engine.run(_job(loss, frames, labels).job())
    spoilt = frames.copy()
    spoilt[1, 3, 0] = np.nan
    result = engine.run(_job(loss, spoilt, labels).job())
    assert result.nonfinite_examples.tolist() == [1]
    assert np.isnan(values(result)[1])
    gradient, expected = (r.gradients[loss.inputs[0].name] for r in (result, clean))
    assert np.isnan(gradient[1]).all()
    keep = np.arange(4) != 1
    assert_same_bits(values(result)[keep], values(clean)[keep])
    assert_same_bits(gradient[keep], expected[keep])


def test_a_cost_beyond_the_type_of_the_frames_is_seen(engine: Engine, loss: Loss) -> None:
    """It is computed in float64, where it is a number."""
    frames = np.zeros((2, 2, 2), np.float32)
    frames[0] = 3e38, -3e38
    case = _job(loss, frames, np.ones((2, 1), np.int64))
    (name,) = case.differentiable
    result = engine.run(case.job())
    assert result.nonfinite_examples.tolist() == [0]
    assert (values(result)[0], result.loss) == (np.inf, np.inf)
    left = engine.run(case.job(nonfinite=NonfinitePolicy.ZERO))
    assert values(left).tolist() == [0, values(result)[1]]
    assert total(left) == pytest.approx(values(result)[1] / 2, rel=1e-7)
    assert_zero(left.gradients[name][0])
    assert_same_bits(left.gradients[name][1], result.gradients[name][1])


def test_one_possible_path_is_enough(engine: Engine, loss: Loss) -> None:
    """All other log-probabilities are -inf, and the derivative is finite."""
    frames = np.full((1, 4, 3), -np.inf)
    path = [0, 2, 0, 1]
    frames[0, np.arange(4), path] = np.log([0.5, 0.25, 0.5, 1.0])
    for kind in loss.parameters[0].type:  # type: ignore[attr-defined]  # an enum
        given = np.exp(frames) if kind.name == "PROBABILITIES" else frames
        case = _job(loss, given, [[2, 1]], prediction_kind=kind)
        result = engine.run(case.job(reduction=Reduction.NONE))
        expected = 0 if kind.name == "LOGITS" else np.log(16)
        np.testing.assert_allclose(values(result), [expected], atol=1e-15)
        gradient = result.gradients[loss.inputs[0].name]
        assert np.isfinite(gradient).all()
        if kind.name == "LOG_PROBABILITIES":
            hits = np.zeros((1, 4, 3))
            hits[0, np.arange(4), path] = -1
            np.testing.assert_allclose(gradient, hits, atol=1e-15)
        if kind.name == "PROBABILITIES":
            exact = case.with_inputs(prediction_lengths=np.array([4]), target_lengths=np.array([2]))
            name = loss.inputs[0].name
            np.testing.assert_allclose(gradient, oracle_gradients(exact, name), rtol=1e-12)


def test_alignments_that_plain_numbers_lose_are_kept(engine: Engine, loss: Loss) -> None:
    """Scores so far apart that the likely states of each frame are not those that end well."""
    rng = np.random.default_rng(4)
    for size in (100, 1000, 30000):
        case = _job(loss, rng.normal(0, size, (5, 8, 3)), rng.integers(1, 3, (5, 4)))
        case = case.with_inputs(
            prediction_lengths=np.full(5, 8), target_lengths=np.array([0, 1, 2, 3, 4])
        )
        result = engine.run(case.job(reduction=Reduction.NONE))
        np.testing.assert_allclose(values(result), oracle_values(case), rtol=1e-13, atol=1e-15)
        name = loss.inputs[0].name
        np.testing.assert_allclose(
            result.gradients[name], oracle_gradients(case, name), rtol=1e-10, atol=2e-11
        )


def test_a_fainter_frame_has_the_larger_derivative(engine: Engine, loss: Loss) -> None:
    """As large as one over it; infinite where that is beyond float64, and nowhere NaN."""
    name = loss.inputs[0].name
    frames = np.random.default_rng(12).uniform(0.1, 1, (2, 4, 3))
    for kind, size in product(members(loss.parameters[0]), (1e-250, 1e-290, 1e-300, 1e-310)):
        if kind.name != "PROBABILITIES":
            continue
        if engine.backend.name == "cupy" and size < np.finfo(np.float64).tiny:
            continue  # a device may take subnormal numbers for 0
        case = _job(loss, frames, [[1, 0], [1, 2]], prediction_kind=kind)
        case = case.with_inputs(
            prediction_lengths=np.array([4, 4]), target_lengths=np.array([1, 2])
        )
        expected = engine.run(case.job(reduction=Reduction.NONE)).gradients[name].copy()
        with np.errstate(over="ignore"):
            expected[0, 2] /= size
        faint = frames.copy()
        faint[0, 2] *= size
        result = engine.run(case.with_inputs(**{name: faint}).job(reduction=Reduction.NONE))
        np.testing.assert_allclose(result.gradients[name], expected, rtol=1e-12)
        assert np.isinf(expected).any() == (size == 1e-310)


def test_rows_too_large_for_one_tile_have_the_same_bits_alone(engine: Engine, loss: Loss) -> None:
    if engine.backend.name == "cupy":
        pytest.skip("an emulated device takes too long")
    time, classes = 64, SEQUENCE_BLOCK_ELEMENTS // 64 + 1
    frames = np.random.default_rng(9).normal(size=(2, time, classes)).astype(np.float32)
    case = _job(loss, frames, [[1, 2, 2], [3, 1, 4]])
    both = engine.run(case.job(reduction=Reduction.NONE))
    assert (values(both) > 0).all()
    for row in range(2):
        alone = engine.run(case.rows(slice(row, row + 1)).job(reduction=Reduction.NONE))
        assert_same_bits(values(alone), values(both)[row : row + 1])
        for name, gradient in alone.gradients.items():
            assert_same_bits(gradient, both.gradients[name][row : row + 1])


Row = tuple[Array, Array]  # frames and labels


def test_a_row_has_the_same_bits_beside_rows_of_any_length(engine: Engine, loss: Loss) -> None:
    """Also where its alignments are so faint that plain numbers just hold them, or just do not."""
    rng = np.random.default_rng(10)
    batches = 25 if engine.backend.name == "numpy" else 1
    for kind, _ in product(members(loss.parameters[0]), range(batches)):
        classes = int(rng.choice([3, 4, 9]))
        parameters = {"prediction_kind": kind, "blank": int(rng.integers(classes))}
        rows = [_faint(rng, kind.name, classes, parameters["blank"]) for _ in range(8)]
        _assert_rows_stand_alone(engine, loss, rows, parameters)


def test_a_longer_row_does_not_move_the_edge_of_plain_numbers(engine: Engine, loss: Loss) -> None:
    """In their first frame rows lose nearly all that plain numbers are trusted to hold."""
    rng = np.random.default_rng(11)
    rows = [(rng.normal(size=(40, 3)), np.array([1, 2, 1]))]
    steps = np.linspace(-4, 4, 41) if engine.backend.name == "numpy" else np.array([-2.2])
    for time, step in product((3, 15, 16, 17), steps):
        scores = np.zeros((time, 3))
        scores[0, :2] = (FAINTEST + step) * np.log(2)
        rows.append((scores, np.array([1, 2])))
    _assert_rows_stand_alone(engine, loss, rows, {})


def _assert_rows_stand_alone(
    engine: Engine, loss: Loss, rows: Sequence[Row], parameters: dict[str, Any]
) -> None:
    whole = engine.run(_padded(loss, rows, parameters).job(reduction=Reduction.NONE))
    gradients = whole.gradients[loss.inputs[0].name]
    for position, row in enumerate(rows):
        alone = engine.run(_padded(loss, [row], parameters).job(reduction=Reduction.NONE))
        assert_same_bits(values(alone), values(whole)[position : position + 1], parameters)
        gradient, time = alone.gradients[loss.inputs[0].name], len(row[0])
        assert_same_bits(gradient, gradients[position : position + 1, :time], parameters)
        assert_zero(gradients[position, time:])


def _faint(rng: np.random.Generator, kind: str, classes: int, blank: int) -> Row:
    """Frames whose likely states are not those that end well; some are of hostile numbers."""
    time = int(rng.choice([1, 2, 8, 15, 16, 17, 24, 31, 33, 48, 49]))
    labels = rng.choice(np.delete(np.arange(classes), blank), rng.integers(time // 2 + 1))
    scores = rng.normal(0, rng.choice([1, 30, 50, 100]), (time, classes))
    if rng.random() < 0.1:
        scores[rng.integers(time), rng.integers(classes)] = rng.choice([-np.inf, np.nan, np.inf])
    if kind == "LOGITS":
        return scores, labels
    with np.errstate(invalid="ignore"):
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    if kind == "LOG_PROBABILITIES":
        return scores, labels
    return np.exp(scores) * np.where(rng.random((time, 1)) < 0.01, 1e-310, 1), labels


def _padded(loss: Loss, rows: Sequence[Row], parameters: dict[str, Any]) -> Case:
    """Rows of any lengths, and nothing beside the longest."""
    lengths = [np.array([len(row[part]) for row in rows]) for part in (0, 1)]
    frames = np.zeros((len(rows), lengths[0].max(), rows[0][0].shape[1]))
    labels = np.zeros((len(rows), lengths[1].max()), int)
    for position, (scores, classes) in enumerate(rows):
        frames[position, : len(scores)] = scores
        labels[position, : len(classes)] = classes
    given = dict(zip(_names(loss), (frames, labels, *lengths), strict=True))
    return Case(loss, parameters, plain(loss).form, given)


def test_long_rows_of_float32_stay_near_float64(engine: Engine, loss: Loss) -> None:
    if engine.backend.name == "cupy":
        pytest.skip("an emulated device takes too long")
    rng = np.random.default_rng(5)
    frames = rng.normal(0, 2, (2, 2000, 9)).astype(np.float32)
    case = _job(loss, frames, rng.integers(1, 9, (2, 300)))
    single = engine.run(case.job(reduction=Reduction.SUM))
    double = engine.run(case.astype(np.float64).job(reduction=Reduction.SUM))
    assert single.loss == pytest.approx(total(double), rel=1e-6)
    for name, gradient in single.gradients.items():
        assert np.abs(gradient - double.gradients[name]).max() < 1e-5


def test_a_sure_row_takes_no_power_more_of_its_length(engine: Engine, loss: Loss) -> None:
    """All that is no alignment is summed for each frame, not for each frame and label."""
    length = 320
    labels = 1 + np.arange(length)[None]

    def seconds(margin: float) -> float:
        frames = np.zeros((1, length, length + 1), np.float32)
        frames[0, np.arange(length), labels[0]] = margin
        job = _job(loss, frames, labels).job()
        found = []
        for _ in range(3):
            start = process_time()
            engine.run(job)
            found.append(process_time() - start)
        return min(found)

    assert seconds(60.0) < 20 * seconds(1.0)  # it was 100 times as long, and is 4 times


def test_pytorch_agrees_on_long_rows(engine: Engine, loss: Loss) -> None:
    """Value and gradient of logits; of log-probabilities PyTorch's is not the derivative."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    for blank, size in ((0, 1.0), (4, 30.0)):
        labels = rng.integers(0, 4, (6, 20))
        labels += labels >= blank
        case = _job(loss, rng.normal(0, size, (6, 60, 5)), labels, blank=blank)
        case = case.with_inputs(
            prediction_lengths=rng.integers(50, 61, 6), target_lengths=rng.integers(0, 21, 6)
        )
        given = {name: torch.tensor(array) for name, array in case.inputs.items()}
        frames, targets, *lengths = given.values()
        frames.requires_grad_()
        for reduction in ("mean", "sum"):
            frames.grad = None
            value = torch.nn.functional.ctc_loss(
                frames.log_softmax(-1).transpose(0, 1), targets, *lengths,
                blank=blank, reduction=reduction, zero_infinity=True,
            )  # fmt: skip
            value.backward()
            result = engine.run(case.job(reduction=Reduction(reduction)))
            assert result.loss == pytest.approx(value.item(), rel=1e-12)
            gradient = result.gradients[loss.inputs[0].name]
            assert_close(gradient, frames.grad.numpy(), np.float64, case, slack=100)
