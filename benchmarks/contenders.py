"""Who takes part in the benchmarks: the losses of the catalogue in lossd and in PyTorch.

Every contender runs in a process of its own: in one they would share an allocator's settings and
disturb each other's threads.  The engine has the server's setting, under which freed memory is
kept.  PyTorch takes part twice: as it ships, where the C library gives large blocks back and page
faults are most of its time, and with memory kept, as under the allocators that people preload.
"""

import importlib.util
import time
import tracemalloc
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import in_pytorch
import numpy as np
import numpy.typing as npt

from lossd.backends.choose import cpu_backend
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.crew import usable_cores
from lossd.engine import Engine
from lossd.losses import (
    CLASS_AXIS,
    LOSSES,
    Axes,
    Choices,
    Content,
    Differentiable,
    DistributionKind,
    Input,
    Shape,
)
from lossd.schema import Interval
from lossd.serving.process.allocator import keep_freed_memory

Array = npt.NDArray[Any]
Run = Callable[[], float]  # computes once and returns the loss
LABELS = 10  # of embeddings
MEMORY = "memory"  # the question for it


@dataclass(frozen=True, slots=True)
class Case:
    """One loss on one shape; every process draws the same inputs for it."""

    loss: str
    shape: tuple[int, ...]
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The loss, with the members of enums that are chosen, and the axis of classes."""
        chosen = (getattr(value, "name", f"{name}={value}") for name, value in self.parameters)
        return " ".join((self.loss, *chosen))

    def inputs(self) -> dict[str, Array]:
        """Draws what the loss declares: numbers in their domain, indices of classes."""
        random = np.random.default_rng(0)
        if LOSSES[self.loss].shape is Shape.SEQUENCE:  # examples, frames, classes and labels
            *frames, labels = self.shape
            predictions = random.standard_normal(frames, np.float32)
            targets = random.integers(1, frames[-1], (frames[0], labels))
            return {"predictions": predictions, "targets": targets}
        needed = (i for i in LOSSES[self.loss].inputs if not i.is_optional)
        drawn = {i.name: self._drawn(random, i) for i in needed}
        kinds = dict(self.parameters)
        if "target_kind" in kinds:  # far from the predictions
            drawn["targets"] = 3 * random.standard_normal(self.shape, np.float32)
        for name, kind in ("predictions", "prediction_kind"), ("targets", "target_kind"):
            if kind in kinds:
                drawn[name] = self._of_kind(drawn[name], kinds[kind])
        if self._has_regions:
            drawn["targets"] = random.integers(0, 2, self.shape).astype(np.float32)
        return drawn

    def differentiable(self) -> list[str]:
        """The inputs whose gradients are computed."""
        declared = LOSSES[self.loss].inputs
        return [i.name for i in declared if i.differentiable is Differentiable.BY_DEFAULT]

    def _of_kind(self, logits: Array, kind: DistributionKind) -> Array:
        """Returns what logits are as another kind: of rows, or of answers by themselves."""
        if kind is DistributionKind.LOGITS:
            return logits
        if LOSSES[self.loss].shape is Shape.POINTWISE:
            logs = -np.log1p(np.exp(-logits))
        else:
            logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logs if kind is DistributionKind.LOG_PROBABILITIES else np.exp(logs)

    @property
    def _has_regions(self) -> bool:
        """Whether each element is in or out; else the last axis counts classes, or vectors."""
        loss = LOSSES[self.loss]
        if "class_axis" in dict(self.parameters):
            return False
        is_compared = loss.shape in (Shape.REGIONWISE, Shape.SETWISE) and len(loss.inputs) > 1
        return is_compared and CLASS_AXIS not in loss.layout_parameters

    def _drawn(self, random: np.random.Generator, declared: Input) -> Array:
        if declared.content is Content.LABELS:
            return random.integers(0, LABELS, self.shape[0])
        if declared.axes is Axes.EXAMPLES and isinstance(declared.domain, Choices):
            return random.choice(np.array(declared.domain.numbers, np.float32), self.shape[:-1])
        if declared.content in (Content.CLASSES, Content.INDICES):
            axis = dict(self.parameters).get("class_axis", -1) % len(self.shape)
            shape = self.shape[:axis] + self.shape[axis + 1 :]
            return random.integers(0, self.shape[axis], shape)
        if isinstance(declared.domain, Choices):
            return random.choice(np.array(declared.domain.numbers, np.float32), self.shape)
        if declared.domain is None and declared.differentiable is Differentiable.BY_DEFAULT:
            return random.standard_normal(self.shape, np.float32)
        is_logarithm = isinstance(declared.domain, Interval) and declared.domain.high == 0
        numbers = random.random(self.shape, np.float32)
        return np.log1p(-numbers) if is_logarithm else numbers


# ------------------------------------------------------------------ what each one runs


def lossd_runs() -> Callable[[Case], Run]:
    """The mean and its gradient, as the server computes them for requests like an earlier one."""
    keep_freed_memory()
    return _runs_of(Engine(cpu_backend(usable_cores())))


def _runs_of(engine: Engine) -> Callable[[Case], Run]:
    def prepare(case: Case) -> Run:
        job = Job(
            loss=LOSSES[case.loss],
            parameters=dict(case.parameters),
            inputs={name: [array] for name, array in case.inputs().items()},
            per_example=False,
        )
        plan = engine.plan(job)
        return lambda: engine.compute(plan, job, plan.laid.arrays(job)).loss or 0.0

    return prepare


def numpy_runs() -> Callable[[Case], Run]:
    """The same without compiled kernels."""
    keep_freed_memory()
    return _runs_of(Engine(NumpyBackend(usable_cores())))


def copy_runs() -> Callable[[Case], Run]:
    """Reads the inputs and writes as many bytes as the gradient has, on all cores."""
    keep_freed_memory()
    cores = usable_cores()
    pool = ThreadPoolExecutor(cores)

    def prepare(case: Case) -> Run:
        inputs, wanted = case.inputs(), case.differentiable()
        given = [(array.reshape(-1), name in wanted) for name, array in inputs.items()]

        def run() -> float:
            places = [np.empty_like(array) if is_wanted else None for array, is_wanted in given]

            def share(core: int) -> None:
                for (array, _), place in zip(given, places, strict=True):
                    part = slice(len(array) * core // cores, len(array) * (core + 1) // cores)
                    if place is not None:
                        np.copyto(place[part], array[part])
                    elif len(array[part]):
                        array[part].max()

            list(pool.map(share, range(cores)))
            return np.nan

        return run

    return prepare


def torch_runs(*, compiled: bool, keeps: bool, threads: int) -> Callable[[Case], Run | None]:
    """Forward and backward in PyTorch, of the losses that it has."""
    if keeps:
        keep_freed_memory()
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    torch.set_num_threads(threads)

    def prepare(case: Case) -> Run | None:
        function = in_pytorch.function(case.label)
        if function is None:
            return None
        if compiled:
            torch.compiler.reset()  # else a dozen shapes count as one function that keeps changing
            function = torch.compile(function, dynamic=False)
        tensors = {name: torch.from_numpy(array) for name, array in case.inputs().items()}
        wanted = [tensors[name] for name in case.differentiable() if name in tensors]
        for tensor in wanted:
            tensor.requires_grad_()

        def run() -> float:
            for tensor in wanted:
                tensor.grad = None
            loss = function(*tensors.values())
            loss.backward()
            return float(loss.detach())

        return run

    return prepare


# ------------------------------------------------------------------ a process each


Setup = Callable[[], Callable[[Case], Run | None]]
Clock = Callable[[], float]


class Contender:
    """One contender in a process of its own; ``clock`` says what its time is, in seconds."""

    def __init__(self, name: str, setup: Setup, clock: Clock) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        given = (name, setup, clock, theirs)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, case: Case) -> float | None:
        """Draws the inputs, runs once (which compiles) and returns the loss, None for no such."""
        return self._ask(case)

    def milliseconds(self, repetitions: int) -> float:
        """The mean time of some runs."""
        return self._ask(repetitions) or 0.0

    def mebibytes(self) -> float:
        """The most memory that one run takes beside its inputs, as far as NumPy asks for it."""
        return self._ask(MEMORY) or 0.0

    def _ask(self, question: Case | int | str) -> float | None:
        self._connection.send(question)
        answer = self._connection.recv()
        if isinstance(answer, str):
            raise SystemExit(answer)
        return None if answer is None else float(answer)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()


def contenders(
    without: Collection[str] = (), *, processor_time: bool = False
) -> dict[str, Contender]:
    """Everyone who is installed, but for some.

    Processor time is that of all threads; PyTorch has one then, so that none of it is waiting.
    """
    clock = time.process_time if processor_time else time.perf_counter
    threads = 1 if processor_time else usable_cores()
    setups: dict[str, Setup] = {"lossd": lossd_runs, "numpy": numpy_runs, "copy": copy_runs}
    if importlib.util.find_spec("torch"):
        setups |= {
            f"{kind}{' kept' * keeps}": partial(
                torch_runs, compiled=kind == "compiled", keeps=keeps, threads=threads
            )
            for kind in ("eager", "compiled")
            for keeps in (False, True)
        }
    return {
        name: Contender(name, setup, clock) for name, setup in setups.items() if name not in without
    }


def _serve(name: str, setup: Setup, clock: Clock, connection: Connection) -> None:
    """Answers the parent until it hangs up."""
    prepare = setup()
    run: Run | None = None
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        try:
            if isinstance(question, Case):
                run = None  # frees the arrays of the last case before it draws the next
                run = prepare(question)
                connection.send(run and run())
            elif question == MEMORY and run is not None:
                connection.send(_peak(run))
            elif run is not None:
                connection.send(_timed(run, question, clock))
        except Exception as error:  # noqa: BLE001 - told to the parent, which ends
            connection.send(f"{name}: {error!r}")


def _timed(run: Run, repetitions: int, clock: Clock) -> float:
    started = clock()
    for _ in range(repetitions):
        run()
    return (clock() - started) / repetitions * 1e3


def _peak(run: Run) -> float:
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / (1 << 20)
