"""Requests for a digest: of everything that the project answers, from seeds."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossd.client import LossClient
from lossd.engine import Engine
from lossd.evaluation import METRICS
from lossd.losses import LOSSES, Loss, Shape
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.sums import SumJob, Term, run
from tests.drawn_networks import save_worked
from tests.end_to_end.conftest import serve
from tests.evaluation.run import score
from tests.losses.case import Array, Case, Form
from tests.losses.compare import DTYPES
from tests.messages import message_of
from tests.misaligned import misaligned
from tests.sampling import cases, coupled_cases, draw, forms, plain

DRAWS = 20  # of options, for every case
SPECIAL = (np.nan, np.inf, -np.inf)
Answers = Iterator[tuple[str, Callable[[], Any]]]  # what is digested under, and how to compute it


def losses(engine: Engine) -> Answers:
    """Every variant of every loss, small, with options at random."""
    for loss in LOSSES.values():
        drawn = coupled_cases if loss.shape is Shape.COUPLED else cases
        for number, case in enumerate(drawn(loss)):
            for draw_number in range(DRAWS):
                rng = np.random.default_rng([number, draw_number])
                asked = _asked(rng, _disturbed(rng, case))
                yield loss.name, lambda job=asked: engine.run(job)  # type: ignore[misc]


def other_layouts(engine: Engine) -> Answers:
    """Classes on another axis, other axes of examples, and labels that are ignored."""
    for loss in LOSSES.values():
        known = {parameter.name for parameter in loss.layout_parameters}
        for number, case in enumerate(cases(loss, rows=12)):
            rng = np.random.default_rng(number)
            form = case.astype(DTYPES[rng.integers(len(DTYPES))])
            if "batch_dims" in known:
                given = {name: a.reshape(3, 4, -1) for name, a in form.inputs.items()}
                dims = int(rng.integers(4))
                form = replace(
                    form, inputs=given, parameters={**case.parameters, "batch_dims": dims}
                )
            elif "class_axis" in known and case.loss.shape is Shape.ROWWISE:
                moved = {n: a.T if a.ndim == 2 else a for n, a in form.inputs.items()}
                form = replace(form, inputs=moved, parameters={**case.parameters, "class_axis": 0})
            if "ignore_index" in known and form.form is Form.CLASSES:
                form = replace(form, parameters={**form.parameters, "ignore_index": 1})
            weights = rng.uniform(0, 2, 12) if form.parameters.get("batch_dims", 1) == 1 else None
            asked = form.job(gradients=form.derivatives, weights=weights)
            yield loss.name, lambda job=asked: engine.run(job)  # type: ignore[misc]


def large_losses(engine: Engine) -> Answers:
    """Batches of several tiles, and rows that are cut."""
    sizes = {
        Shape.POINTWISE: ((70_000, 9), (3, 300_000)),
        Shape.ROWWISE: ((60_001, 10), (700, 1000)),
        Shape.REGIONWISE: ((40, 20_000),),
        Shape.VECTORS: ((5000, 129),),
        Shape.SETWISE: ((5001, 3),),
        Shape.COUPLED: ((700, 65),),
        Shape.SEQUENCE: ((33, 40),),
        Shape.OPPOSED: ((3000, 3),),
        Shape.FEATURES: ((700, 800),),
    }
    for loss in LOSSES.values():
        for rows, length in sizes.get(loss.shape, ()):
            for number, form in enumerate(forms(loss)):
                rng = np.random.default_rng([rows, number])
                case = plain(loss, rows=rows, length=length, form=form)
                asked = _asked(rng, case.astype(np.float32))
                yield loss.name, lambda job=asked: engine.run(job)  # type: ignore[misc]


def sums(engine: Engine) -> Answers:
    """Sums of two losses over the same inputs."""
    pairs = [
        ("squared_error", "huber"), ("cross_entropy", "softmax_focal"), ("dice", "focal"),
        ("binary_cross_entropy", "soft_f1"), ("nt_xent", "batch_triplet"),
        ("info_nce", "sigmoid_contrastive"),
    ]  # fmt: skip
    for first, second in pairs:
        for number in range(DRAWS * 4):
            rng = np.random.default_rng(number)
            case = _disturbed(rng, plain(LOSSES[first]))
            job = _asked(rng, case)
            terms = tuple(
                Term(
                    weight=weight,
                    job=replace(job, loss=LOSSES[name], inputs={}),
                    names={i.name: i.name for i in LOSSES[name].inputs},
                )
                for name, weight in ((first, 1.0), (second, rng.choice([0.0, -0.7])))
            )
            asked = SumJob(terms=terms, inputs=job.inputs, gradients=job.gradients)
            yield "sums", lambda job=asked: run(engine, job)  # type: ignore[misc]


def metrics(_: Engine) -> Answers:
    """Every metric on its own examples."""
    for metric in METRICS.values():
        for example in metric.examples:
            yield (
                f"metric {metric.name}",
                lambda m=metric, e=example: score(m.name, e.parameters, **e.inputs),  # type: ignore[misc]
            )


def transports() -> Answers:
    """Every loss by a message, by a stream and in shared memory."""
    with tempfile.TemporaryDirectory() as folder:
        save_worked(Path(folder))
        common = ("--backend", "numpy", "--threads", "2", "--networks", folder)
        with serve(*common) as plainly, serve(*common, "--shm-dir", folder) as sharing:
            for address in (plainly.address, sharing.address):
                with LossClient(address) as client:
                    yield from _sent(client)


def _sent(client: LossClient) -> Answers:
    for loss in LOSSES.values():
        for rows in (7, 6000):
            case = _servable(loss, rows)
            if case is None:
                continue
            job = case.job()
            inputs = {n: a[0] if len(a) == 1 else a for n, a in job.inputs.items()}
            message = message_of(case)
            yield (
                f"sent {loss.name}",
                lambda m=message, i=inputs: client.compute(m, **i),  # type: ignore[misc]
            )


def _servable(loss: Loss, rows: int) -> Case | None:
    """A batch that the example networks take, and of which no more is compared than fits."""
    if loss.shape is Shape.IMAGES:
        worked = {"network": loss.examples[0].parameters["network"]}
        return None if rows > 7 else replace(_of_example(loss), parameters={
            **loss.examples[0].parameters, **worked,
        })  # fmt: skip
    rows = min(rows, 600) if loss.shape in (Shape.COUPLED, Shape.SEQUENCE) else rows
    return draw(loss, {}, forms(loss)[0], rows, 40 if rows > 7 else 5).astype(np.float32)


def _of_example(loss: Loss) -> Case:
    example = loss.examples[0]
    given = {name: np.asarray(array, np.float32) for name, array in example.inputs.items()}
    return replace(plain(loss), inputs=given)


def _disturbed(rng: np.random.Generator, case: Case) -> Case:
    """Another type and layout in memory, and now and then a number that is not finite."""
    case = case.astype(DTYPES[rng.integers(len(DTYPES))])
    if rng.random() < 0.3:
        for array in case.inputs.values():
            if array.dtype.kind not in "iub" and array.size:
                array.reshape(-1)[rng.integers(array.size)] = rng.choice(SPECIAL)
    lay = rng.choice(np.array([_as_it_is, _transposed, misaligned]))
    return case.with_inputs(**{name: lay(array) for name, array in case.inputs.items()})


def _as_it_is(array: Array) -> Array:
    return array


def _transposed(array: Array) -> Array:
    return np.asfortranarray(array)


def _asked(rng: np.random.Generator, case: Case) -> Any:
    """A job with options at random, of which some are refused."""
    examples = _examples(case)
    options: dict[str, Any] = {}
    if rng.random() < 0.5:
        options["weights"] = rng.uniform(0, 2, examples) * (rng.random(examples) < 0.8)
    if rng.random() < 0.5:
        options["mask"] = rng.random(examples) < rng.choice([0.7, 0.7, 0])
    if rng.random() < 0.5:
        cotangents = rng.normal(0, 2, examples)
        options["cotangent"] = cotangents if rng.random() < 0.7 else np.asarray(1.5)
    if rng.random() < 0.5:
        options["gradients"] = case.derivatives if rng.random() < 0.8 else ()
    if rng.random() < 0.1:
        options["normalizer"] = 3.5
    return case.job(
        reduction=_one_of(rng, Reduction) if rng.random() < 0.6 else Reduction.MEAN,
        empty=_one_of(rng, EmptyPolicy),
        nonfinite=_one_of(rng, NonfinitePolicy),
        per_example=rng.random() < 0.8,
        **options,
    )


def _one_of(rng: np.random.Generator, members: Any) -> Any:
    return list(members)[rng.integers(len(members))]


def _examples(case: Case) -> tuple[int, ...]:
    """The shape of the examples, as far as one can tell from outside."""
    first = case.inputs.get(case.first, next(iter(case.inputs.values())))
    if case.loss.shape is Shape.OPPOSED and case.loss.sides is not None:
        sides = case.loss.sides(**case.loss.complete(case.parameters))
        return (sum(map(len, case.inputs.values())) if sides.name == "BOTH" else len(first),)
    if case.loss.shape is Shape.ROWWISE:
        return first.shape[:-1]
    return first.shape[:1]
