"""However the data is split over batches, calls and workers, the result is that of one call."""

import contextlib
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd import tensors, v1
from lossd.checkpoints import Checkpoint
from lossd.errors import InvalidRequest, TooLarge, UnknownMetric
from lossd.evaluation import METRICS, Score, State, StateError, Tally, merged
from lossd.evaluation._exact import UNIT, exact_sums
from lossd.evaluation._text import TextLevel
from lossd.serving.evaluation_service import state as evaluation_state
from lossd.serving.evaluation_service.codec import Requested, read_spec
from tests.evaluation.run import score, score_of, state, values_of

Data = dict[str, Any]
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def yes_or_no(random: np.random.Generator, count: int) -> Data:
    return {
        "predictions": np.round(random.standard_normal(count), 1),
        "targets": random.integers(0, 2, count),
    }


def of_classes(random: np.random.Generator, count: int) -> Data:
    return {
        "predictions": np.round(random.standard_normal((count, 4)), 1).astype(np.float32),
        "targets": random.integers(0, 4, count),
    }


def of_indices(random: np.random.Generator, count: int) -> Data:
    return {
        "predictions": random.integers(0, 9, count),
        "targets": random.integers(0, 7, count),
    }


def of_numbers(random: np.random.Generator, count: int) -> Data:
    scale = 10.0 ** random.integers(-9, 9, (count, 2))
    return {
        "predictions": random.standard_normal((count, 2)) * scale,
        "targets": random.standard_normal((count, 2)) * scale,
    }


def of_rankings(random: np.random.Generator, count: int) -> Data:
    return {
        "predictions": random.integers(0, 5, (count, 6)) / 2,
        "targets": random.integers(0, 3, (count, 6)),
    }


def of_texts(random: np.random.Generator, count: int) -> Data:
    def sentence() -> str:
        return " ".join(random.choice(["a", "b", "c"], random.integers(0, 7)))

    return {
        "hypotheses": [sentence() for _ in range(count)],
        "references": [[sentence()] for _ in range(count)],
    }


CASES: list[tuple[str, Data, Callable[..., Data]]] = [
    *((name, {}, make) for name in ("accuracy", "precision", "recall", "f1", "f_beta")
      for make in (yes_or_no, of_classes, of_indices)),
    ("accuracy", {"balanced": True}, of_classes),
    ("matthews_correlation", {}, of_indices),
    ("confusion_matrix", {}, of_indices),
    ("roc_auc", {}, yes_or_no),
    ("roc_auc", {"max_fpr": 0.4}, yes_or_no),
    ("roc_auc", {}, of_classes),
    ("average_precision", {}, yes_or_no),
    ("average_precision", {}, of_classes),
    ("log_loss", {}, yes_or_no),
    ("log_loss", {}, of_classes),
    ("brier", {}, of_classes),
    ("calibration_error", {}, of_classes),
    ("perplexity", {}, of_classes),
    ("regression_errors", {}, of_numbers),
    ("retrieval_at_k", {"k": 3}, of_rankings),
    ("bleu", {}, of_texts),
    ("bleu", {"level": TextLevel.SENTENCE}, of_texts),
    ("chrf", {}, of_texts),
    ("chrf", {"level": TextLevel.SENTENCE}, of_texts),
    ("word_error_rate", {}, of_texts),
]  # fmt: skip


def part(data: Data, index: Any) -> Data:
    return {
        name: [value[i] for i in index] if isinstance(value, list) else value[index]
        for name, value in data.items()
    }


def same(left: Score, right: Score) -> bool:
    """To the bit."""
    return repr((left.value, left.values, left.outputs, left.reason, left.signature)) == repr(
        (right.value, right.values, right.outputs, right.reason, right.signature)
    )


def requested(name: str, parameters: Data) -> Requested:
    metric = METRICS[name]
    spec = v1.MetricSpec()
    getattr(spec, name).SetInParent()
    return Requested(metric, metric.complete(parameters), spec, name)


def test_every_metric_is_split() -> None:
    assert {name for name, _, _ in CASES} == set(METRICS)


@pytest.mark.parametrize(("name", "parameters", "make"), CASES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), max_size=5), data=st.data())
def test_any_split_gives_the_result_of_one_call_to_the_bit(  # noqa: PLR0917 - pytest's
    name: str, parameters: Data, make: Callable[..., Data], seed: int, cuts: list[int], data: Any
) -> None:
    random = np.random.default_rng(seed)
    whole = make(random, 40)
    if data.draw(st.booleans()) and make is not of_texts:
        whole["weights"] = random.uniform(0, 2, 40)
    pieces = np.split(np.arange(40), sorted(cuts))
    states = [state(name, parameters, **part(whole, piece)) for piece in pieces]
    expected = score(name, parameters, **whole)
    assert same(score_of(name, states, parameters), expected)
    if parameters.get("level") is not TextLevel.SENTENCE:  # whose values are in the data's order
        shuffled = [states[i] for i in random.permutation(len(states))]
        middle = data.draw(st.integers(0, len(states)))
        nested = [merged(shuffled[:middle]), merged(shuffled[middle:])]
        assert same(score_of(name, nested, parameters), expected)


@pytest.mark.parametrize(("name", "parameters", "make"), CASES)
def test_a_state_survives_its_bytes(name: str, parameters: Data, make: Callable[..., Data]) -> None:
    random = np.random.default_rng(1)
    whole = make(random, 30)
    if make is not of_texts:
        whole["weights"] = random.uniform(0, 2, 30)
    one = requested(name, {})  # the bytes hold the parameters of the message, here none
    kept = merged(
        [state(name, parameters, **part(whole, np.arange(n, n + 10))) for n in (0, 10, 20)]
    )
    if parameters.get("level") is None and not parameters:
        (found,) = evaluation_state.read([evaluation_state.write([one], [kept])], [one])
        assert found[0] == 0
        assert same(score_of(name, [found[1]]), score_of(name, [kept]))


def test_some_batches_may_have_weights_and_others_not() -> None:
    whole = yes_or_no(np.random.default_rng(2), 20)
    for name in ("roc_auc", "f1", "log_loss"):
        mixed = [
            state(name, **part(whole, np.arange(10))),
            state(name, **part(whole, np.arange(10, 20)), weights=np.full(10, 0.5)),
        ]
        weights = np.repeat([1.0, 0.5], 10)
        assert same(score_of(name, mixed), score(name, **whole, weights=weights))


def test_states_of_different_things_do_not_merge() -> None:
    random = np.random.default_rng(3)
    two = state("f1", predictions=[[1.0, 2.0]], targets=[1])
    four = state("f1", **of_classes(random, 3))
    binary = state("f1", **yes_or_no(random, 3))
    for other, word in ((two, "number of classes"), (binary, "task")):
        with pytest.raises(StateError, match=f"must agree on the {word}"):
            merged([four, other])
    assert merged([State(), four]).width == 4


def test_what_saw_nothing_goes_with_everything() -> None:
    labels = state(
        "confusion_matrix", predictions=[[1.0, -1.0], [1.0, 1.0]], targets=[[1, 0], [0, 1]]
    )
    nothing = state("confusion_matrix", predictions=np.zeros((0, 3)), targets=np.zeros(0, int))
    for states in ([labels, nothing], [nothing, labels], [nothing, labels, nothing]):
        assert same(score_of("confusion_matrix", states), score_of("confusion_matrix", [labels]))


def test_a_large_state_is_not_copied_for_each_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = []
    add = Tally.plus

    def counted(left: Tally, right: Tally, checkpoint: Checkpoint) -> Tally:
        joined.append(max(left.integers.size, right.integers.size))
        return add(left, right, checkpoint)

    monkeypatch.setattr(Tally, "plus", counted)
    large = state("f1", predictions=[0], targets=[9_999])
    merged([large, *[state("f1", predictions=[0], targets=[1])] * 1000])
    assert sum(size == 10_000 for size in joined) == 3 * 10  # of three tallies, by pairs of pairs


def test_counts_that_add_up_beyond_64_bits_are_refused() -> None:
    much = Tally(np.full(2, 1 << 59))
    with pytest.raises(StateError, match="tallies of states must add up to at most"):
        merged([State(example_count=1, tallies={"hits": much})] * 4)
    for many in (State(example_count=1 << 59), State(ignored_count=1 << 59)):
        with pytest.raises(StateError, match="examples of states must add up to at most"):
            merged([many] * 4)


def test_batches_of_no_weight_are_as_one() -> None:
    silent = yes_or_no(np.random.default_rng(7), 9) | {"weights": np.zeros(9)}
    for name in ("f1", "log_loss", "roc_auc"):
        states = [state(name, **part(silent, np.arange(n, n + 3))) for n in (0, 3, 6)]
        assert merged(states).silent_count == 9
        assert same(score_of(name, states), score(name, **silent))


def test_many_small_batches_stay_few_tables() -> None:
    states = [state("roc_auc", predictions=[float(i)], targets=[i % 2]) for i in range(500)]
    kept = merged(states)
    assert len(kept.tables) < 12
    assert kept.example_count == 500


@given(st.lists(FINITE, max_size=60))
def test_sums_are_exact(numbers: list[float]) -> None:
    total = exact_sums(np.frexp(np.array(numbers, np.float64))).get(0, 0)
    assert Fraction(total, UNIT) == sum(map(Fraction, numbers), Fraction(0))


@given(st.lists(st.tuples(st.integers(0, 5), FINITE), min_size=1, max_size=60))
def test_sums_of_groups_are_exact(pairs: list[tuple[int, float]]) -> None:
    groups, numbers = zip(*pairs, strict=True)
    totals = exact_sums(np.frexp(np.array(numbers)), groups=np.array(groups))
    for group in range(6):
        expected = sum((Fraction(n) for g, n in pairs if g == group), Fraction(0))
        assert Fraction(totals.get(group, 0), UNIT) == expected


@pytest.mark.parametrize("columns", [2, 3, 50_000])
def test_columns_are_the_groups_of_rows(columns: int) -> None:
    """Chunks begin anywhere within a row."""
    random = np.random.default_rng(columns)
    numbers = random.standard_normal((max(2, 70_000 // columns), columns))
    totals = exact_sums(np.frexp(numbers.reshape(-1)), columns=columns)
    for column in random.integers(0, columns, 20).tolist():
        expected = sum(map(Fraction, numbers[:, column].tolist()), Fraction(0))
        assert Fraction(totals[column], UNIT) == expected


@given(st.lists(FINITE, min_size=1, max_size=3))
def test_a_product_loses_nothing(factors: list[float]) -> None:
    total = exact_sums(*(np.frexp(np.array([factor])) for factor in factors)).get(0, 0)
    assert Fraction(total, UNIT) == math.prod(map(Fraction, factors))


# ------------------------------------------------------------------ bytes from anywhere


@pytest.mark.parametrize(("name", "parameters", "make"), CASES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_say_they_are_refused_or_scored(
    name: str, parameters: Data, make: Callable[..., Data], data: Any
) -> None:
    del parameters
    one = requested(name, {})
    kept = state(name, **make(np.random.default_rng(4), 12))
    encoded = bytearray(evaluation_state.write([one], [kept]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest, StateError, UnknownMetric, TooLarge):
        found = evaluation_state.read([bytes(encoded)], [one])
        whole = merged([kept, *(state for _, state in found)])
        result = one.metric.score(whole, one.parameters)
        assert result.value is None or math.isfinite(result.value)


def hostile(change: Callable[[v1.MetricState], None], name: str = "f1") -> Any:
    """A state of F1, or another, that was changed."""
    one = requested(name, {})
    make = of_texts if name == "bleu" else yes_or_no
    message = v1.EvaluationState.FromString(
        evaluation_state.write([one], [state(name, **make(np.random.default_rng(5), 9))])
    )
    change(message.metrics[0])
    return evaluation_state.read([message.SerializeToString()], [one])


def set_shape(*shape: int) -> Callable[[v1.MetricState], None]:
    def change(entry: v1.MetricState) -> None:
        entry.tallies[0].integers.shape[:] = shape

    return change


def lengthen(entry: v1.MetricState) -> None:
    set_shape(4097, 1)(entry)
    entry.tallies[0].integers.data = bytes(8 * 4097)


def widen(task: str, width: int) -> Callable[[v1.MetricState], None]:
    def change(entry: v1.MetricState) -> None:
        entry.task = getattr(v1, f"CLASSIFICATION_TASK_{task}")
        entry.width = width

    return change


def repeat_fraction(entry: v1.MetricState) -> None:
    tally = entry.tallies[0]
    tally.indices.shape[:] = [2]
    tally.indices.data = bytes(2 * 8)
    tally.fractions[:] = [b"\x01"] * 2


def set_fraction(size: int) -> Callable[[v1.MetricState], None]:
    def change(entry: v1.MetricState) -> None:
        tally = entry.tallies[0]
        tally.indices.shape[:] = [1]
        tally.indices.data = bytes(8)
        tally.fractions[:] = [b"\x7f" * size]

    return change


def set_statistics(*rows: list[int], ignored: int = 0) -> Callable[[v1.MetricState], None]:
    def change(entry: v1.MetricState) -> None:
        entry.ignored_count = ignored
        written = entry.columns.add(name="statistics").tensors.add()
        tensors.fill(written, np.array(rows, np.int64))

    return change


HOSTILE: list[tuple[str, Callable[[v1.MetricState], Any], str]] = [
    ("f1", lambda entry: setattr(entry, "version", 1), "must have version 2, got 1"),
    ("f1", lambda entry: entry.metric.recall.SetInParent(), "must be of a metric that is asked"),
    ("f1", lambda entry: setattr(entry.metric.f1, "threshold", 0.5), "must be of a metric that"),
    ("f1", lambda entry: setattr(entry, "example_count", -1), "example_count must be in"),
    ("f1", lambda entry: setattr(entry, "silent_count", 99), "example_count must hold"),
    ("f1", lambda entry: setattr(entry, "width", 1 << 60), "width must be in"),
    ("f1", lambda entry: setattr(entry, "task", 9), r"task must be in \[0, 3\], got 9"),
    ("f1", lambda entry: entry.tallies.add(name="hits"), "tallies must be"),
    ("f1", lambda entry: setattr(entry.tallies[0], "name", "x"), "tallies must be"),
    ("f1", set_shape(1 << 40), "data must have"),
    ("f1", set_shape(2, 1), "must be int64 on 1 axes"),
    ("f1", set_fraction(901), "at most 900 bytes"),
    ("f1", repeat_fraction, "indices must ascend"),
    ("f1", lambda entry: entry.columns.add(name="scores"), "columns must be at most 0"),
    ("roc_auc", lambda entry: entry.ClearField("columns"), "scores must be there"),
    ("roc_auc", lambda entry: entry.columns.pop(), "columns must be scores and targets"),
    ("roc_auc", lambda entry: setattr(entry, "task", 2), "width must be there, got none"),
    ("roc_auc", lambda entry: setattr(entry, "task", 0), "task must be there, got none"),
    ("roc_auc", widen("MULTICLASS", 3), "must have 3 and 1 columns, got 1 and 1"),
    ("roc_auc", widen("MULTILABEL", 2), "must have 2 and 2 columns, got 1 and 1"),
    ("confusion_matrix", lengthen, "at most 4096 along an axis"),
    ("confusion_matrix", set_shape(4, 1), "pairs must be square"),
    ("confusion_matrix", set_shape(1, 4), "pairs must be square"),
    ("roc_auc", lambda entry: setattr(entry, "example_count", 8), "a row for each of 8 examples"),
    ("roc_auc", lambda entry: setattr(entry, "silent_count", 1), "a row for each of 8 examples"),
    ("bleu", set_fraction(8), "must be counts, got fractions"),
    ("bleu", set_statistics([2, -1, 0]), "statistics must be counts, got others"),
    ("bleu", set_statistics([-2, -2, -2]), "statistics must be counts, got others"),
    ("bleu", set_statistics(*[[2, 2, 0]] * 10), "a row for each of 9 examples"),
    ("bleu", set_statistics(*[[2, 2, 0]] * 10, ignored=1), "statistics must be of 9 examples"),
]


@pytest.mark.parametrize(("name", "change", "message"), HOSTILE)
def test_a_state_that_no_server_made_is_refused(
    name: str, change: Callable[[v1.MetricState], None], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        hostile(change, name)
    assert caught.value.field == "states[0]"


def test_states_of_more_metrics_than_may_be_are_refused() -> None:
    many = b"\x0a\x00" * ((1 << 15) + 1)  # empty ones
    with pytest.raises(TooLarge, match="states must have at most 32768 entries, got 32769"):
        evaluation_state.read([many], [])


@pytest.mark.parametrize("encoded", [b"\0", b"\xff" * 9, b"state"])
def test_bytes_that_are_no_state_are_named(encoded: bytes) -> None:
    metrics = [read_spec(v1.MetricSpec(f1=v1.F1()), "metrics[0]")]
    words = f"state must be one that a server made, got {len(encoded)} bytes"
    with pytest.raises(InvalidRequest, match=words) as caught:
        evaluation_state.read([b"", encoded], metrics)
    assert (caught.value.field, caught.value.reason) == ("states[1]", "INVALID_STATE")


def sentences(columns: int, *, length: int = 1) -> State:
    """A state of BLEU by sentences that has so many counts of one hypothesis."""
    spec = v1.MetricSpec(bleu=v1.Bleu(level=v1.TEXT_LEVEL_SENTENCE))
    one = read_spec(spec, "metrics[0]")
    counts = np.full((1, columns), 2)
    counts[:, 0] = length
    made = State(example_count=1, tables=({"statistics": counts},))
    ((_, found),) = evaluation_state.read([evaluation_state.write([one], [made])], [one])
    return found


def test_tables_of_different_shapes_do_not_merge() -> None:
    with pytest.raises(StateError, match="must have statistics of one shape"):
        merged([sentences(10), sentences(4)])


def test_hypotheses_with_ngrams_and_no_length_have_a_reason() -> None:
    found = score_of("bleu", [sentences(10, length=0)], {"level": TextLevel.SENTENCE})
    assert found.reason.startswith("hypotheses are empty")


def test_a_sum_beyond_every_number_is_said() -> None:
    ((_, found),) = hostile(set_fraction(900), "log_loss")
    result = METRICS["log_loss"].score(found, {**METRICS["log_loss"].complete({})})
    assert result.value is None
    assert result.is_nonfinite


def test_sums_below_zero_of_what_cannot_be_are_none() -> None:
    def change(entry: v1.MetricState) -> None:
        for tally in entry.tallies[:2]:  # squares and magnitudes
            tally.fractions[:] = [b"\xff"]

    ((_, found),) = hostile(change, "regression_errors")
    outputs = score_of("regression_errors", [found]).outputs
    assert (outputs["mse"], outputs["rmse"], outputs["mae"]) == (0, 0, 0)


def test_counts_of_no_class_have_a_reason() -> None:
    def change(entry: v1.MetricState) -> None:
        entry.task = v1.CLASSIFICATION_TASK_MULTICLASS
        for tally in entry.tallies:
            tally.integers.data = bytes(8 * 2)

    ((_, found),) = hostile(change)
    result = score_of("f1", [found])
    assert (result.value, result.reason) == (None, "no class occurs")


def test_bins_that_were_not_asked_for_count_nothing() -> None:
    def change(entry: v1.MetricState) -> None:
        for tally in entry.tallies:
            tally.integers.shape[:] = [100]
            tally.integers.data = np.ones(100, np.int64).tobytes()

    ((_, found),) = hostile(change, "calibration_error")
    assert values_of(score_of("calibration_error", [found])).shape == (15,)


def test_a_state_names_its_parameters() -> None:
    spec = v1.MetricSpec(accuracy=v1.Accuracy(top_k=2))
    one = read_spec(spec, "metrics[0]")
    kept = state("accuracy", {"top_k": 2}, **of_classes(np.random.default_rng(6), 5))
    encoded = evaluation_state.write([one], [kept])
    assert evaluation_state.read([encoded], [one])[0][1].example_count == 5
    with pytest.raises(InvalidRequest, match="got Accuracy"):
        evaluation_state.read([encoded], [requested("accuracy", {})])
