"""Losses of tokens: right, split as one likes, and blind to every token that does not count."""

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

from lossd import ordering
from lossd.backends._host import NO_KERNELS, host_kernels
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import InvalidTensor
from lossd.losses import LOSSES, Axes, Content, Input, Loss, Shape, Status
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes import _compiled_token_run, _summed_run, _token_results, _token_run
from lossd.shapes._compiled_token_run import CompiledTokenRun
from lossd.shapes._token_run import TokenRun
from tests.losses.case import Array, Case, looks_of, values
from tests.losses.compare import DTYPES, assert_close, assert_same_bits, assert_zero
from tests.oracles import coupled_outputs, coupled_values, policies, token_slopes
from tests.sampling import knows_others, token_cases

TOKENS = [loss for loss in LOSSES.values() if loss.shape is Shape.TOKENS]
BAD = 2
LAYS_OUT = (Content.FLAGS, Content.LENGTHS, Content.OFFSETS)


@pytest.fixture(params=TOKENS, ids=lambda loss: loss.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss of tokens."""
    found: Loss = request.param
    return found


def options(seed: int, rows: int = 7) -> dict[str, Any]:
    """A mask, weights of which one is 0, and cotangents."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.2, 2, rows)
    weights[rows // 2] = 0
    mask = np.arange(rows) != rows - 1
    return {"mask": mask, "weights": weights, "cotangent": rng.normal(0, 1, rows)}


def declared(case: Case, name: str) -> Input:
    return case.loss.input(name)


def is_of_tokens(case: Case, name: str) -> bool:
    """Whether an input has a number for each token here."""
    axes = {Axes.TOKENS: 2, Axes.EITHER: 2, Axes.CLASSES: 3}
    return case.inputs[name].ndim == axes.get(declared(case, name).axes)


def counting(case: Case, side: str) -> Array:
    """Which tokens of a padded side count."""
    shape = next(
        a.shape[:2]
        for n, a in case.inputs.items()
        if declared(case, n).side == side and is_of_tokens(case, n)
    )
    found = np.ones(shape, bool)
    if f"{side}lengths" in case.inputs:
        found &= np.arange(shape[1]) < case.inputs[f"{side}lengths"][:, None]
    if f"{side}token_mask" in case.inputs:
        found &= case.inputs[f"{side}token_mask"].astype(bool)
    return found


def within(case: Case, side: str) -> Array:
    """Which cells of a padded side lie within the lengths."""
    left = {n: a for n, a in case.inputs.items() if n != f"{side}token_mask"}
    return counting(Case(case.loss, case.parameters, case.form, left), side)


def flat(case: Case) -> Case:
    """The same tokens one after the other, with offsets."""
    found: dict[str, Array] = {}
    for name, array in case.inputs.items():
        side = declared(case, name).side
        if is_of_tokens(case, name):
            found[name] = array[within(case, side)]
            sizes = within(case, side).sum(axis=1)
            found[f"{side}offsets"] = np.concatenate([[0], np.cumsum(sizes)])
        elif declared(case, name).content is not Content.LENGTHS:
            is_each = declared(case, name).axes is Axes.EITHER
            found[name] = array[:, None] if is_each else array
    return Case(case.loss, case.parameters, case.form, found)


def padded(loss: Loss, **drawn: int) -> Iterator[Case]:
    """The cases whose tokens are given one by one."""
    for case in token_cases(loss, **drawn):
        if any(is_of_tokens(case, name) for name in case.inputs):
            yield case


def denominators(case: Case) -> Array:
    if "aggregation" not in case.parameters:
        return np.ones(case.count)
    return np.array(policies.denominators({**case.inputs, **case.parameters}))


def test_values_equal_the_independent_formula(engine: Engine, loss: Loss) -> None:
    for drawn in token_cases(loss):
        for dtype in DTYPES:
            case = drawn.astype(dtype)
            result = engine.run(case.job())
            expected = coupled_values(case)
            assert_close(values(result), expected, np.float64, (case, dtype))
            assert values(result).dtype == (np.float64 if dtype == np.float64 else np.float32)
            below = denominators(case).sum()
            mean = expected.sum() / below if below else 0.0
            assert result.loss == pytest.approx(mean, rel=1e-12, abs=1e-12)
            assert result.weight_sum == pytest.approx(below)


def test_gradients_equal_the_independent_formula(engine: Engine, loss: Loss) -> None:
    for number, drawn in enumerate(token_cases(loss, rows=5, length=4)):
        dtype = (np.float32, np.float64)[number % 2]
        case = drawn.astype(dtype)
        given = {} if knows_others(case) else options(number, rows=5)
        weights, mask, cotangent = (
            given.get(name, np.ones(5)) for name in ("weights", "mask", "cotangent")
        )
        below = (denominators(case) * weights * mask).sum()
        scales = cotangent * weights * mask / below
        result = engine.run(case.job(gradients=case.differentiable, **given))
        for name in case.differentiable:
            expected = token_slopes(case, name, scales)
            assert_close(result.gradients[name], expected, np.float64, (case, name))


def asking(case: Case) -> Case:
    """The same, with all outputs that its loss has."""
    parameter = next(p for p in case.loss.parameters if p.name == "outputs")
    assert parameter.choices is not None
    return replace(case, parameters={**case.parameters, "outputs": tuple(parameter.choices)})


def test_outputs_equal_the_independent_formula(engine: Engine, loss: Loss) -> None:
    for drawn in token_cases(loss):
        case = asking(drawn)
        result = engine.run(case.job())
        assert list(result.outputs) == [member.value.name for member in case.parameters["outputs"]]
        for name, expected in coupled_outputs(drawn).items():
            assert_close(result.outputs[name], expected, np.float64, (case, name))


def test_a_token_that_does_not_count_may_hold_anything(engine: Engine, loss: Loss) -> None:
    for case in padded(loss):
        clean = engine.run(case.job(reduction=Reduction.SUM))
        for poison in (np.nan, np.inf, -np.inf, 1e300):
            spoilt = {}
            for name, array in case.inputs.items():
                if is_of_tokens(case, name) and array.dtype.kind == "f":
                    kept = counting(case, declared(case, name).side)
                    spoilt[name] = array.copy()
                    spoilt[name][~kept] = poison
            result = engine.run(case.with_inputs(**spoilt).job(reduction=Reduction.SUM))
            assert result.loss == clean.loss
            assert_same_bits(values(result), values(clean), case)
            for name, gradient in clean.gradients.items():
                assert_same_bits(result.gradients[name], gradient, case)
                if is_of_tokens(case, name):
                    assert_zero(gradient[~counting(case, declared(case, name).side)], case)


def test_an_excluded_sequence_may_hold_anything(engine: Engine, loss: Loss) -> None:
    for case in token_cases(loss):
        keep = np.arange(7) != BAD
        spoilt = {n: a.copy() for n, a in case.inputs.items()}
        for name, array in spoilt.items():
            if declared(case, name).content is not Content.LABELS:
                array[BAD] = np.nan if array.dtype.kind == "f" else -5
        for silence in ({"mask": keep}, {"weights": keep.astype(float)}):
            clean = engine.run(case.job(**silence))
            result = engine.run(case.with_inputs(**spoilt).job(**silence))
            assert result.loss == clean.loss, case
            assert_zero(values(result)[BAD])
            assert BAD not in result.statuses.indices
            for name, gradient in clean.gradients.items():
                assert_same_bits(result.gradients[name], gradient, case)
                assert_zero(gradient[BAD])


def test_flat_tokens_are_the_same_as_padded_ones(engine: Engine, loss: Loss) -> None:
    for number, case in enumerate(padded(loss)):
        given = options(number)
        result = engine.run(case.job(**given))
        other = engine.run(flat(case).job(**given))
        assert other.loss == result.loss, case
        assert other.weight_sum == result.weight_sum
        assert_same_bits(values(other), values(result), case)
        for name, gradient in result.gradients.items():
            is_flat = is_of_tokens(case, name)
            found = gradient[within(case, declared(case, name).side)] if is_flat else gradient
            assert_same_bits(other.gradients[name], found, (case, name))


def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(engine: Engine, loss: Loss) -> None:
    for case in token_cases(loss, rows=3000, length=33):
        if knows_others(case):
            continue
        given = case.astype(np.float32)
        whole = engine.run(given.job(reduction=Reduction.SUM))
        for piece in (slice(0, 1), slice(1500, 1501), slice(17, 2900, 3)):
            part = engine.run(given.rows(piece).job(reduction=Reduction.SUM))
            assert_same_bits(values(part), values(whole)[piece], (case, piece))
            for name, gradient in part.gradients.items():
                assert_same_bits(gradient, whole.gradients[name][piece], (case, piece))


def splits(rng: np.random.Generator, rows: int) -> Sequence[Array]:
    """A few parts of the rows, in any order and some of them empty."""
    order = rng.permutation(rows)
    return np.split(order, np.sort(rng.integers(0, rows + 1, rng.integers(0, 9))))


def test_any_split_has_the_same_gradients_and_loss(engine: Engine, loss: Loss) -> None:
    rng = np.random.default_rng(5)
    for case in token_cases(loss, rows=23):
        if knows_others(case):
            continue
        whole = engine.run(case.job())
        for _ in range(12):
            parts = splits(rng, 23)
            total, counted, grads = (
                0.0,
                0.0,
                {n: np.zeros_like(a) for n, a in whole.gradients.items()},
            )
            for part in parts:
                result = engine.run(case.rows(part).job(normalizer=whole.weight_sum))
                total += result.loss or 0.0
                counted += result.weight_sum
                for name, gradient in result.gradients.items():
                    grads[name][part] = gradient
            assert total == pytest.approx(whole.loss, rel=1e-13, abs=1e-15)
            assert counted == whole.weight_sum
            for name, gradient in whole.gradients.items():
                np.testing.assert_allclose(grads[name], gradient, rtol=1e-13, atol=0)


@pytest.mark.parametrize("cells", [1, 3])
def test_pieces_may_be_shorter_than_a_sequence(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, loss: Loss, cells: int
) -> None:
    """Outputs are asked for too, some of which are sorted, the largest, or a mean."""
    drawn = [asking(case) for case in (*token_cases(loss), *map(flat, padded(loss)))]
    jobs = [case.job(**options(number)) for number, case in enumerate(drawn)]
    expected = [engine.run(job) for job in jobs]
    monkeypatch.setattr(_token_run, "PIECE_TOKENS", cells)
    monkeypatch.setattr(_compiled_token_run, "PIECE_TOKENS", cells)
    monkeypatch.setattr(_compiled_token_run, "PART_NUMBERS", cells)
    monkeypatch.setattr(TokenRun, "piece_tokens", cells)
    monkeypatch.setattr(_summed_run, "PIECE_CELLS", cells)
    monkeypatch.setattr(_summed_run, "KERNEL_CELLS", cells)
    monkeypatch.setattr(_summed_run, "BLOCK_ROWS", cells)
    for case, job, right in zip(drawn, jobs, expected, strict=True):
        found = engine.run(job)
        near = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14)
        near(values(found), values(right), err_msg=str(case))
        for name, array in {**right.gradients, **right.outputs}.items():
            near({**found.gradients, **found.outputs}[name], array, err_msg=str((case, name)))
        np.testing.assert_array_equal(found.statuses.indices, right.statuses.indices)


OF_CLASSES = [loss for loss in TOKENS if loss.inputs[0].axes is Axes.CLASSES]


@pytest.mark.parametrize("loss", OF_CLASSES, ids=lambda loss: loss.name)
def test_no_body_computes_again_what_sides_give_to_classes(
    monkeypatch: pytest.MonkeyPatch, loss: Loss
) -> None:
    compiled, plain = (Engine(NumpyBackend(1, one)) for one in (host_kernels(), NO_KERNELS))
    monkeypatch.delattr(CompiledTokenRun, "_tell_beside")
    for case in map(asking, padded(loss)):
        found, right = compiled.run(case.job()), plain.run(case.job())
        for name, expected in right.outputs.items():
            assert_close(found.outputs[name], expected, np.float64, (case, name))


@pytest.mark.parametrize("loss", OF_CLASSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("numbers", [1, 7, 20])
def test_parts_of_a_sequence_have_the_same_bits_however_it_is_given(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, loss: Loss, numbers: int
) -> None:
    """Of tokens that have a number for each class, of which threads share a sequence."""
    monkeypatch.setattr(_compiled_token_run, "PART_NUMBERS", numbers)
    for number, case in enumerate(map(asking, padded(loss))):
        if knows_others(case):
            continue
        dtype = DTYPES[number % len(DTYPES)]
        given, chosen = case.astype(dtype), options(number)
        whole = engine.run(given.job(reduction=Reduction.SUM, **chosen))
        other = engine.run(flat(given).job(reduction=Reduction.SUM, **chosen))
        assert_same_bits(values(other), values(whole), given)
        kept = within(given, "")
        assert_same_bits(other.gradients["predictions"], whole.gradients["predictions"][kept], case)
        for row in range(given.count):
            rows = slice(row, row + 1)
            alone = {name: array[rows] for name, array in chosen.items()}
            part = engine.run(given.rows(rows).job(reduction=Reduction.SUM, **alone))
            assert_same_bits(values(part), values(whole)[rows], given)
            for name, array in {**part.gradients, **part.outputs}.items():
                expected = {**whole.gradients, **whole.outputs}[name][rows]
                assert_same_bits(array, expected, (given, name))


@pytest.mark.parametrize("loss", OF_CLASSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_token_that_is_not_finite_zeroes_all_parts_of_its_sequence(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, loss: Loss, dtype: Any
) -> None:
    monkeypatch.setattr(_compiled_token_run, "PART_NUMBERS", 1)
    drawn = next(case for case in padded(loss) if not knows_others(case))
    left = {name: array for name, array in drawn.inputs.items() if array.ndim == 3}
    given = asking(replace(drawn, inputs=left)).astype(dtype)
    right = engine.run(given.job(reduction=Reduction.SUM))
    spoilt = given.inputs["predictions"].copy()
    spoilt[BAD, -1] = np.nan
    job = given.with_inputs(predictions=spoilt).job(
        reduction=Reduction.SUM, nonfinite=NonfinitePolicy.ZERO
    )
    found = engine.run(job)
    assert found.nonfinite_examples.tolist() == [BAD]
    others = np.arange(given.count) != BAD
    for array, whole in [
        (values(found), values(right)),
        (found.gradients["predictions"], right.gradients["predictions"]),
        *((found.outputs[name], right.outputs[name]) for name in right.outputs),
    ]:
        assert_zero(array[BAD])
        assert_same_bits(array[others], whole[others], given)


def test_a_long_sequence_can_be_stopped(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    monkeypatch.setattr(_token_run, "PIECE_TOKENS", 1)
    case = next(padded(loss, rows=1, length=50), None)
    if case is None or not any(p.name == "aggregation" for p in loss.layout_parameters):
        pytest.skip("has no value of a token")
    looks: list[None] = []
    engine = Engine(NumpyBackend(1))
    engine.run(case.job(), checkpoint=lambda: looks.append(None))
    engine.close()
    assert len(looks) >= 50


def test_outputs_of_a_long_sequence_take_few_passes_over_it(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, loss: Loss
) -> None:
    """One for all means, one for the largest and one for those that are sorted.

    Of tokens with a number for each class there are means alone.
    """
    monkeypatch.setattr(_token_run, "PIECE_TOKENS", 1)
    monkeypatch.setattr(_compiled_token_run, "PIECE_TOKENS", 1)
    monkeypatch.setattr(TokenRun, "piece_tokens", 1)
    passes = 1 if loss.inputs[0].axes is Axes.CLASSES else 3
    for case in padded(loss, rows=1, length=50):
        plain, asked = (looks_of(engine, one.job()) for one in (case, asking(case)))
        # A kernel that tells not all of them has the body go over it once more.
        assert asked <= plain + (passes + 1) * 50 + 9, case


def test_sorting_groups_and_long_sequences_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, loss: Loss
) -> None:
    """Labels of groups are sorted, and the numbers of all pieces of a sequence."""
    monkeypatch.setattr(_token_run, "PIECE_TOKENS", 1)
    engine = Engine(NumpyBackend(1))
    is_any = False
    for case in padded(loss, rows=40, length=3):
        is_sorted = "groups" in case.inputs
        is_any |= is_sorted
        at_once = looks_of(engine, case.job())
        with monkeypatch.context() as patch:
            patch.setattr(ordering, "RUN", 2)
            assert looks_of(engine, case.job()) >= at_once + (40 if is_sorted else 0)
    engine.close()
    if not is_any:
        pytest.skip("has no groups")


def spoilt(case: Case, rows: Array) -> Case:
    """The same, with sequences that are not finite."""
    found = {name: array.copy() for name, array in case.inputs.items()}
    for name, array in found.items():
        if array.dtype.kind == "f" and declared(case, name).domain is None:
            array[rows] = np.nan
    return case.with_inputs(**found)


@pytest.mark.parametrize("cells", [1, 3, 1 << 15])
def test_what_is_left_out_is_so_in_pieces_that_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, loss: Loss, cells: int
) -> None:
    for drawn in padded(loss):
        if knows_others(drawn):
            continue
        for case in (drawn, flat(drawn)):
            plain = case.job(reduction=Reduction.SUM)
            right, looks = engine.run(plain), looks_of(engine, plain)
            bad = spoilt(drawn, np.array([0, 4]))
            job = (bad if case is drawn else flat(bad)).job(
                reduction=Reduction.SUM, nonfinite=NonfinitePolicy.ZERO
            )
            monkeypatch.setattr(_token_results, "_CLEARED", cells)
            found = engine.run(job)
            lost = found.nonfinite_examples
            assert set(lost) <= {0, 4}
            assert_zero(values(found)[lost])
            for name, gradient in right.gradients.items():
                expected = gradient.copy()
                expected[np.isin(rows_of(case, name), lost)] = 0
                np.testing.assert_array_equal(found.gradients[name], expected, str((case, name)))
            if cells == 1 and len(lost):
                assert looks_of(engine, job) >= looks + drawn.count


def rows_of(case: Case, name: str) -> Array:
    """The sequence of each number of an input, along axis 0."""
    offsets = case.inputs.get(f"{declared(case, name).side}offsets")
    if offsets is None or declared(case, name).axes is Axes.EXAMPLES:
        return np.arange(len(case.inputs[name]))
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def test_no_sequence_takes_a_line_of_python_by_itself(loss: Loss) -> None:
    """A million of them would take seconds, and the interpreter from others for as long."""
    engine, rows = Engine(NumpyBackend(1)), 3000
    for drawn in padded(loss, rows=rows, length=3):
        bad = spoilt(drawn, np.arange(0, rows, 2))
        for case in (drawn, flat(drawn), bad, flat(bad)):
            assert lines_of(engine, case.job(nonfinite=NonfinitePolicy.ZERO)) < rows
    engine.close()


def lines_of(engine: Engine, job: Job) -> int:
    """Returns how many lines of the shapes run."""
    lines: list[None] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if "/lossd/shapes/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines.append(None)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        engine.run(job)
    finally:
        sys.settrace(before)
    assert lines
    return len(lines)


def test_flags_need_not_lie_side_by_side(engine: Engine, loss: Loss) -> None:
    for case in map(flat, padded(loss)):
        names = [n for n in case.inputs if n.endswith("token_mask")]
        apart = {n: np.repeat(case.inputs[n], 2)[::2] for n in names}
        result, other = engine.run(case.job()), engine.run(case.with_inputs(**apart).job())
        assert_same_bits(values(other), values(result), case)


def test_sixteen_bits_are_rounded_once(engine: Engine, loss: Loss) -> None:
    for case in token_cases(loss):
        given = case.astype(np.float16)
        found, exact = engine.run(given.job()), engine.run(given.astype(np.float64).job())
        for name, gradient in found.gradients.items():
            with np.errstate(over="ignore"):
                right = exact.gradients[name].astype(np.float16)
            np.testing.assert_allclose(gradient, right, 1e-3, 1e-7, err_msg=str((case, name)))


def test_no_sequences_and_no_tokens_are_worth_nothing(engine: Engine, loss: Loss) -> None:
    for case in padded(loss):
        none = engine.run(case.rows(slice(0)).job())
        assert (none.loss, none.example_count) == (0.0, 0)
        empty = {n: np.zeros_like(a) for n, a in case.inputs.items() if n.endswith("token_mask")}
        result = engine.run(case.with_inputs(**empty).job())
        assert np.isfinite(values(result)).all()
        for name, gradient in result.gradients.items():
            if is_of_tokens(case, name):
                assert_zero(gradient, case)
        if not any(p.name == "groups" for p in case.loss.inputs) and len(empty) == 1:
            assert (result.statuses.numbers == Status.EMPTY_TARGET).all()
        narrow = {n: a[:, :0] for n, a in case.inputs.items() if is_of_tokens(case, n)}
        lengths = {n: a * 0 for n, a in case.inputs.items() if n.endswith("lengths")}
        assert np.isfinite(engine.run(case.with_inputs(**narrow, **lengths).job()).loss or 0)


def test_a_sequence_that_is_not_finite_shows_it_or_zeros(engine: Engine, loss: Loss) -> None:
    for drawn in token_cases(loss):
        if knows_others(drawn):
            continue
        case = asking(drawn)
        lengths = {n: np.full(7, 5) for n in case.inputs if n.endswith("lengths")}
        masks = {n: np.ones((7, 5), bool) for n in case.inputs if n.endswith("token_mask")}
        full = case.with_inputs(**lengths, **masks)
        spoilt = full.inputs[case.first].copy()
        spoilt[BAD] = np.nan
        job = full.with_inputs(**{case.first: spoilt}).job
        clean, shown = engine.run(full.job()), engine.run(job())
        if values(clean)[BAD] == 0:
            continue  # a weight of 0 takes nothing, also of NaN
        zeroed = engine.run(job(nonfinite=NonfinitePolicy.ZERO))
        assert np.isnan(values(shown)[BAD]), case
        assert shown.nonfinite_examples.tolist() == zeroed.nonfinite_examples.tolist() == [BAD]
        assert values(zeroed)[BAD] == 0
        for name, gradient in clean.gradients.items():
            expected = gradient.copy()
            expected[BAD] = 0
            assert_same_bits(zeroed.gradients[name], expected, case)
        for name, output in zeroed.outputs.items():
            expected = clean.outputs[name].copy()
            expected[BAD] = 0
            assert_same_bits(output, expected, (case, name))


@pytest.mark.parametrize(
    ("name", "wrong", "rule"),
    [
        ("lengths", [6, 0, 0, 0, 0, 0, 0], "lengths[0] must be in [0, 6), got 6"),
        ("lengths", [0, -1, 0, 0, 0, 0, 0], "lengths[1] must be in [0, 6), got -1"),
        ("lengths", [0, 1], "lengths must have the shape [7] of the sequences, got [2]"),
        ("token_mask", np.full((7, 5), 2), "token_mask[0, 0] must be in {0, 1}, got 2"),
        ("token_mask", np.ones((7, 4), bool), "token_mask must have the shape [7, 5] of"),
    ],
)
def test_what_lays_tokens_out_is_checked(
    engine: Engine, loss: Loss, name: str, wrong: Any, rule: str
) -> None:
    case = next(token_cases(loss))
    sides = {i.side for i in loss.inputs if i.name == f"{i.side}{name}" and i.name in case.inputs}
    for side in sides:
        broken = case.with_inputs(**{f"{side}{name}": np.asarray(wrong)})
        with pytest.raises(InvalidTensor) as caught:
            engine.run(broken.job())
        assert str(caught.value).startswith(f"{side}{rule}")


@pytest.mark.parametrize(
    ("offsets", "rule"),
    [
        (
            [1, 2, 3],
            "offsets[0] must be in ascending order from 0 to the number of tokens, 3, got 1",
        ),
        ([0, 2, 1, 3], "offsets[2] must be in ascending order"),
        ([0, 2], "offsets[1] must be in ascending order"),
        ([], "offsets must have one axis"),
    ],
)
def test_offsets_are_checked(engine: Engine, loss: Loss, offsets: list[int], rule: str) -> None:
    for case in padded(loss, rows=2, length=3):
        side = declared(case, case.first).side
        inputs = {
            name: array[0] if is_of_tokens(case, name) else array[: len(offsets) - 1]
            for name, array in case.inputs.items()
            if declared(case, name).side == side and declared(case, name).content not in LAYS_OUT
        }
        others = {n: a for n, a in case.inputs.items() if declared(case, n).side != side}
        given = {**inputs, **others, f"{side}offsets": np.array(offsets, np.int64)}
        with pytest.raises(InvalidTensor) as caught:
            engine.run(Case(case.loss, case.parameters, case.form, given).job())
        is_rows = "as many sequences" in str(caught.value) or "the sequences" in str(caught.value)
        assert is_rows or str(caught.value).startswith(f"{side}{rule}")
        break
