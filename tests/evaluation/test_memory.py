"""Metrics take the memory that they say they take, and everything in them can be stopped."""

import itertools
import math
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossd import ordering
from lossd.evaluation import METRICS, InputError, Metric, MetricBatch, State, Tally, merged
from lossd.evaluation._averages import Average
from lossd.evaluation._exact import UNIT
from lossd.evaluation._ngrams import MAX_TOKENS
from lossd.evaluation._text import TextLevel
from lossd.evaluation.confusion_matrix import Normalization
from lossd.losses import ParameterError
from lossd.serving.evaluation_service import state as evaluation_state
from tests.evaluation.run import batch
from tests.evaluation.test_states import requested

COUNT = 60_000
SMALL = 1 << 20  # of Python's objects and of what is read at a first use

Data = dict[str, Any]


def answers(random: np.random.Generator, count: int) -> Data:
    scores = random.standard_normal(count).astype(np.float32)
    return {"predictions": scores, "targets": random.integers(0, 2, count).astype(np.int8)}


def classes(random: np.random.Generator, count: int) -> Data:
    scores = random.standard_normal((count // 4, 4)).astype(np.float32)
    return {"predictions": scores, "targets": random.integers(0, 4, count // 4).astype(np.int8)}


def labels(random: np.random.Generator, count: int) -> Data:
    scores = random.standard_normal((count // 4, 4)).astype(np.float32)
    return {"predictions": scores, "targets": random.integers(0, 2, scores.shape).astype(np.int8)}


def indices(random: np.random.Generator, count: int) -> Data:
    return {n: random.integers(0, 50, count).astype(np.int8) for n in ("predictions", "targets")}


def far_indices(random: np.random.Generator, count: int) -> Data:
    """Two examples, and a class that is far away."""
    del random
    return {"predictions": np.array([min(count, 2047), 0]), "targets": np.array([0, 1])}


def numbers(random: np.random.Generator, count: int) -> Data:
    return {n: random.standard_normal((count // 2, 2)) for n in ("predictions", "targets")}


def many_outputs(random: np.random.Generator, count: int) -> Data:
    """One example: all that it takes is sums."""
    return {n: random.standard_normal((1, count // 20)) for n in ("predictions", "targets")}


def rankings(random: np.random.Generator, count: int) -> Data:
    scores = random.standard_normal((2, count // 2)).astype(np.float32)
    return {"predictions": scores, "targets": random.integers(0, 3, scores.shape).astype(np.int8)}


def one_text(random: np.random.Generator, count: int) -> Data:
    text = "".join(random.choice(list("ab cd"), count // 2))
    return {"hypotheses": [text], "references": [[text[::-1]]]}


def many_texts(random: np.random.Generator, count: int) -> Data:
    texts = ["".join(random.choice(list("ab cd"), 12)) for _ in range(count // 24)]
    return {"hypotheses": texts, "references": [[one[::-1]] for one in texts]}


def many_reference_texts(random: np.random.Generator, count: int) -> Data:
    """One text with many references, of characters of which few pairs occur twice."""
    codes = random.integers(0x4E00, 0x9FFF, (65, count // 65))
    hypothesis, *references = ("".join(map(chr, each)) for each in codes)
    return {"hypotheses": [hypothesis], "references": [references]}


def many_references(random: np.random.Generator, count: int) -> Data:
    """One text with many references, of token ids of which few occur twice."""
    hypothesis, *references = random.integers(-(2**31), 2**31, (65, count // 65)).astype(np.int32)
    return {"hypotheses": [hypothesis], "references": [references]}


def wide_labels(random: np.random.Generator, count: int) -> Data:
    """Two examples, and a sum for each label, in which both may be."""
    scores = random.standard_normal((2, count // 4)).astype(np.float32)
    return {"predictions": scores, "targets": np.ones(scores.shape, np.int8)}


def wide_classes(random: np.random.Generator, count: int) -> Data:
    """Two examples, and many scores of each."""
    scores = random.standard_normal((2, min(count, 2047))).astype(np.float32)
    return {"predictions": scores, "targets": np.array([0, 1])}


def own_classes(random: np.random.Generator, count: int) -> Data:
    """Each example is of a class of its own, and is found to be."""
    indices = random.permutation(min(count, 2047))
    return {"predictions": indices, "targets": indices}


def chances(random: np.random.Generator, count: int) -> Data:
    targets = random.integers(0, 2, count).astype(np.int8)
    return {"predictions": random.random(count), "targets": targets}


def single_documents(random: np.random.Generator, count: int) -> Data:
    scores = random.standard_normal((count, 1)).astype(np.float32)
    return {"predictions": scores, "targets": np.ones((count, 1), np.int8)}


DECIDED = ("accuracy", "precision", "recall", "f1", "f_beta")
CASES: list[tuple[str, Data, Callable[..., Data]]] = [
    *((name, {}, make) for name in DECIDED for make in (answers, classes, labels, indices)),
    *((name, {}, far_indices) for name in (*DECIDED, "confusion_matrix", "matthews_correlation")),
    ("accuracy", {"top_k": 2}, classes),
    *((name, {}, make) for name in ("confusion_matrix", "matthews_correlation")
      for make in (answers, classes, indices)),
    *((name, {}, make) for name in ("roc_auc", "average_precision")
      for make in (answers, classes, labels)),
    *((name, {}, make) for name in ("log_loss", "brier", "calibration_error")
      for make in (answers, classes)),
    *((name, {}, own_classes) for name in (*DECIDED, "matthews_correlation")),
    *((name, {}, wide_labels) for name in DECIDED),
    ("calibration_error", {"bins": 65536}, answers),
    ("perplexity", {}, classes),
    *(("regression_errors", {}, make) for make in (many_outputs, numbers)),
    *(("retrieval_at_k", {}, make) for make in (rankings, single_documents)),
    *((name, parameters, make) for name, parameters in (
        ("bleu", {"order": 16}), ("chrf", {"char_order": 16, "word_order": 16}),
        ("word_error_rate", {})) for make in (one_text, many_texts)),
    ("bleu", {}, many_references), ("chrf", {}, many_reference_texts),
]  # fmt: skip


BY_ROW = (
    classes, labels, numbers, many_outputs, rankings, wide_labels, wide_classes, single_documents,
)  # fmt: skip
MAKERS = (
    answers, classes, labels, indices, far_indices, numbers, many_outputs, rankings, one_text,
    many_texts, many_references, many_reference_texts, wide_labels, wide_classes, own_classes,
    chances, single_documents,
)  # fmt: skip


def drawn(random: np.random.Generator, metric: Metric) -> Data:
    """Some parameters of a metric, each at an end of what it may be or anywhere between."""
    found: Data = {}
    for parameter in metric.all_parameters:
        if random.random() < 0.6 or parameter.name == "ignore_index":
            continue
        if parameter.choices is not None:
            choices: list[Any] = list(parameter.choices)
            found[parameter.name] = choices[random.integers(len(choices))]
        elif parameter.type is bool:
            found[parameter.name] = bool(random.integers(2))
        elif parameter.type is int and parameter.bounds is not None:
            low, high = int(parameter.bounds.low), min(int(parameter.bounds.high), 1 << 16)
            found[parameter.name] = (low, high, int(random.integers(low, high)))[random.integers(3)]
    return found


def taken(work: Callable[[], Any]) -> tuple[Any, int]:
    """Returns its result, and the bytes that it took at the most."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        found = work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return found, peak - before


def test_a_state_takes_no_more_than_it_says() -> None:
    """Of one example and many outputs, all of it is exact sums."""
    given, metric = many_outputs(np.random.default_rng(1), COUNT), METRICS["regression_errors"]
    whole, complete = batch(**given), metric.complete({})
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        state = metric.observe(whole, complete)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert SMALL < after - before <= state.nbytes + SMALL


def test_every_metric_is_looked_at() -> None:
    assert {name for name, _, _ in CASES} == set(METRICS)


@pytest.mark.parametrize("count", [COUNT // 4, COUNT])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "parameters", "make"), CASES)
def test_a_metric_takes_no_more_than_it_says(
    name: str, parameters: Data, make: Callable[..., Data], *, weighted: bool, count: int
) -> None:
    random = np.random.default_rng(count)
    data, metric = make(random, count), METRICS[name]
    if weighted and "targets" in data:
        shape = data["predictions"].shape[:1] if make in BY_ROW else data["predictions"].shape
        data["weights"] = random.random(shape, np.float32)
    given, complete = batch(**data), metric.complete(parameters)
    metric.score(metric.observe(given, complete), complete)  # what is imported at the first use

    state, observing = taken(lambda: metric.observe(given, complete))
    score, scoring = taken(lambda: metric.score(state, complete))

    assert score.value is not None or score.values is not None or score.reason
    assert observing <= metric.observing(given, complete) + SMALL
    assert scoring <= metric.scoring(state, complete) + SMALL


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_takes_no_more_than_it_says_whatever_its_parameters(name: str) -> None:
    """Such as many bins, classes, labels or n-grams of few examples."""
    metric, draws = METRICS[name], np.random.default_rng([*name.encode()])
    for make, number in itertools.product(MAKERS, range(4)):
        random, parameters = np.random.default_rng(number), drawn(draws, metric)
        data = make(random, COUNT // 5)
        if "targets" in data and number % 2:
            data["weights"] = random.random(data["targets"].shape[: 1 + number // 2])
        try:
            check_what_is_taken(metric, batch(**data), metric.complete(parameters))
        except (InputError, ParameterError):  # the data is for other metrics, or parameters
            continue


def check_what_is_taken(metric: Metric, given: MetricBatch, complete: Data) -> None:
    metric.score(metric.observe(given, complete), complete)
    state, observing = taken(lambda: metric.observe(given, complete))
    _, scoring = taken(lambda: metric.score(state, complete))
    assert observing <= metric.observing(given, complete) + SMALL, complete
    assert scoring <= metric.scoring(state, complete) + SMALL, complete


@pytest.mark.parametrize("name", ["matthews_correlation", "f1", "regression_errors"])
def test_one_small_weight_among_many_counts_takes_no_more_than_it_says(name: str) -> None:
    """The sums of all classes are then integers of thousands of bits."""
    metric = METRICS[name]
    complete = metric.complete({})
    tallies = {key: Tally(np.arange(3_000), {0: 1}) for key in metric.tallies}
    state = State(example_count=1, width=3_000, tallies=tallies)
    score, scoring = taken(lambda: metric.score(state, complete))
    assert score.value is not None or score.reason
    assert scoring <= metric.scoring(state, complete) + SMALL


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("f1", {}, (100_000,)),
        ("f1", {"average": Average.WEIGHTED}, (100_000,)),
        ("accuracy", {"balanced": True}, (100_000,)),
        *(("confusion_matrix", {"normalization": one}, (700, 700)) for one in Normalization),
    ],
)
def test_a_result_of_many_classes_takes_no_more_than_it_says(
    name: str, parameters: Data, shape: tuple[int, ...]
) -> None:
    metric = METRICS[name]
    complete = metric.complete(parameters)
    state = State(
        example_count=1, tallies={key: Tally(np.ones(shape, np.int64)) for key in metric.tallies}
    )
    _, scoring = taken(lambda: metric.score(state, complete))
    assert scoring <= metric.scoring(state, complete) + SMALL


@pytest.mark.parametrize("name", [*DECIDED, "confusion_matrix", "matthews_correlation"])
def test_an_ignored_target_that_is_no_class_takes_nothing(name: str) -> None:
    far, metric = 1 << 40, METRICS[name]
    complete = metric.complete({"ignore_index": far})
    given = batch(predictions=np.array([0, 1, 1]), targets=np.array([0, 1, far]))
    assert metric.observing(given, complete) < SMALL
    assert metric.observe(given, complete).ignored_count == 1


def test_texts_are_not_kept() -> None:
    """The tokenizers of sacrebleu have caches of 65,536 texts."""
    metric = METRICS["bleu"]
    complete = metric.complete({})
    metric.observe(batch(hypotheses=["a"], references=[["a"]]), complete)

    def observe() -> None:
        for number in range(20):
            text = f"{number} " * 10_000
            metric.observe(batch(hypotheses=[text], references=[["a"]]), complete)

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        observe()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < SMALL


class Stopped(Exception):  # noqa: N818 - no error
    """A checkpoint wants no more."""


def stopping_at(number: int) -> Callable[[], None]:
    """Returns a checkpoint that stops the work when it is called for that time."""
    calls = itertools.count(1)

    def checkpoint() -> None:
        if next(calls) == number:
            raise Stopped

    return checkpoint


def test_tokens_stay_as_they_lie_until_they_are_looked_at() -> None:
    """A number of Python's takes 40 bytes, of which a token has one."""
    tokens = np.zeros(1 << 20, np.int8)
    given = batch(hypotheses=["a"], references=[["a"]])
    sequences = {
        name: type(one)(((tokens,),), are_texts=False) for name, one in given.sequences.items()
    }
    metric = METRICS["word_error_rate"]

    def observe() -> str:
        with pytest.raises(InputError, match="at most 131072 tokens") as caught:
            metric.observe(MetricBatch(sequences=sequences), metric.complete({}))
        return str(caught.value)

    _, peak = taken(observe)
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("name", "parameters"), [("bleu", {"order": 16}), ("chrf", {"char_order": 16})]
)
def test_one_long_text_stops_when_it_is_asked_to(name: str, parameters: Data) -> None:
    random = np.random.default_rng(0)
    data, metric = one_text(random, 400_000), METRICS[name]
    asked: list[float] = []

    def checkpoint() -> None:
        asked.append(time.process_time())
        if len(asked) == 6:
            raise Stopped

    given = batch(**data)
    stoppable = MetricBatch(sequences=given.sequences, checkpoint=checkpoint)
    with pytest.raises(Stopped):
        metric.observe(stoppable, metric.complete(parameters))


def weighted_answers(random: np.random.Generator, count: int) -> Data:
    return {**answers(random, count), "weights": random.random(count)}


def weighted_outputs(random: np.random.Generator, count: int) -> Data:
    pairs = {n: random.standard_normal((4, count // 8)) for n in ("predictions", "targets")}
    return {**pairs, "weights": random.random(4)}


def weighted_rankings(random: np.random.Generator, count: int) -> Data:
    return {**rankings(random, count), "weights": random.random(2)}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *(
            (name, weighted_answers)
            for name in (*DECIDED, "confusion_matrix", "matthews_correlation")
        ),
        *((name, weighted_answers) for name in ("log_loss", "brier", "calibration_error")),
        ("regression_errors", weighted_outputs),
        ("retrieval_at_k", weighted_rankings),
    ],
)
def test_exact_sums_stop_when_they_are_asked_to(name: str, make: Callable[..., Data]) -> None:
    """Numbers of many sizes and groups are added one by one."""
    metric, given = METRICS[name], batch(**make(np.random.default_rng(0), 150_000))
    stoppable = replace(given, checkpoint=stopping_at(3))
    with pytest.raises(Stopped):
        metric.observe(stoppable, metric.complete({}))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "parameters", "make"),
    [
        *((name, {}, answers) for name in ("roc_auc", "average_precision")),
        ("roc_auc", {"average": Average.MICRO}, labels),
        ("retrieval_at_k", {}, rankings),
    ],
)
def test_many_scores_that_are_sorted_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    parameters: Data,
    make: Callable[..., Data],
    *,
    weighted: bool,
) -> None:
    """And take no more than they say, in parts as in one go."""
    monkeypatch.setattr(ordering, "RUN", 1 << 11)
    data, metric = make(np.random.default_rng(0), COUNT), METRICS[name]
    if weighted:
        data["weights"] = np.random.default_rng(0).random(len(data["predictions"]))
    given, complete = batch(**data), metric.complete(parameters)
    looks: list[None] = []
    looking = replace(given, checkpoint=lambda: looks.append(None))
    state, observing = taken(lambda: metric.observe(looking, complete))
    _, scoring = taken(lambda: metric.score(state, complete, lambda: looks.append(None)))
    assert len(looks) >= 2 * COUNT >> 11
    assert observing <= metric.observing(given, complete) + SMALL
    assert scoring <= metric.scoring(state, complete) + SMALL


def weighed(metric: Metric, sums: int) -> State:
    """A state of so many exact sums of weights in each tally."""
    side = math.isqrt(sums)
    tallies = {
        name: Tally(
            np.zeros((sums,) if axes == 1 else (side, side), np.int64),
            dict.fromkeys(range(sums if axes == 1 else side**2), UNIT // 3),
        )
        for name, axes in metric.tallies.items()
    }
    return State(example_count=sums, tallies=tallies)


EXACT: list[tuple[str, Data]] = [
    *((name, {}) for name in (*DECIDED[1:], "matthews_correlation", "regression_errors")),
    ("f1", {"average": Average.MICRO}),
    ("accuracy", {"balanced": True}),
    ("calibration_error", {"bins": 40_000}),
    *(("confusion_matrix", {"normalization": one}) for one in Normalization),
]


@pytest.mark.parametrize(("name", "parameters"), EXACT)
def test_a_result_of_many_exact_sums_can_be_stopped(name: str, parameters: Data) -> None:
    metric = METRICS[name]
    state, looks = weighed(metric, 40_000), 0
    complete = metric.complete(parameters)

    def look() -> None:
        nonlocal looks
        looks += 1

    metric.score(state, complete, look)
    tallies = len(metric.tallies) - (name == "regression_errors")  # which has one sum of weights
    assert looks >= 40_000 * tallies >> 12
    with pytest.raises(Stopped):
        metric.score(state, complete, stopping_at(looks // 2))


def test_states_of_many_exact_sums_are_written_and_read_until_they_are_stopped() -> None:
    state, metrics, looks = weighed(METRICS["f1"], 40_000), [requested("f1", {})], [0]
    encoded = evaluation_state.write(metrics, [state], lambda: looks.append(0))
    written = len(looks)
    assert written >= 40_000 * len(state.tallies) >> 12
    with pytest.raises(Stopped):
        evaluation_state.write(metrics, [state], stopping_at(written // 2))
    ((_, read),) = evaluation_state.read([encoded], metrics, checkpoint=lambda: looks.append(0))
    assert read.tally("hits").fractions == state.tally("hits").fractions
    assert len(looks) >= 2 * written
    with pytest.raises(Stopped):
        evaluation_state.read([encoded], metrics, checkpoint=stopping_at(written // 2))


def test_states_of_many_exact_sums_are_added_up_until_they_are_stopped() -> None:
    states = [weighed(METRICS["f1"], 40_000)] * 2
    whole = merged(states)
    assert whole.tally("hits").exact(39_999) == 2 * Fraction(UNIT // 3, UNIT)
    with pytest.raises(Stopped):
        merged(states, stopping_at(25))


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_scores_of_many_sentences_stop_when_they_are_asked_to(name: str) -> None:
    metric, texts = METRICS[name], ["a b"] * 10_000
    parameters = metric.complete({"level": TextLevel.SENTENCE})
    state = metric.observe(batch(hypotheses=texts, references=[[t] for t in texts]), parameters)
    with pytest.raises(Stopped):
        metric.score(state, parameters, stopping_at(2))


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_text_that_is_too_long_is_refused(name: str) -> None:
    metric = METRICS[name]
    given = batch(hypotheses=["a" * MAX_TOKENS], references=[["a"]])
    with pytest.raises(InputError, match=f"at most {MAX_TOKENS} tokens or characters"):
        metric.observe(given, metric.complete({}))


@pytest.mark.parametrize(
    ("parameters", "stops"), [({"average": "WEIGHTED"}, 2), ({"multiclass": "ONE_VS_ONE"}, 150)]
)
def test_each_few_curves_of_many_classes_are_a_place_to_stop(parameters: Data, stops: int) -> None:
    random = np.random.default_rng(0)
    metric = METRICS["roc_auc"]
    kinds: Any = {p.name: p.type for p in metric.all_parameters}
    complete = metric.complete({name: kinds[name][value] for name, value in parameters.items()})
    data = {
        "predictions": random.standard_normal((600, 200)).astype(np.float32),
        "targets": np.arange(600) % 200,
    }
    state = metric.observe(batch(**data), complete)
    with pytest.raises(Stopped):
        metric.score(state, complete, stopping_at(stops))
