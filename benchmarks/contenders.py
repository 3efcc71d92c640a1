"""Who takes part in the benchmarks: the losses of the catalogue in lossd and in PyTorch.

Every contender runs in a process of its own, set up as it ships: the engine with the server's
allocator setting, PyTorch with the C library's defaults.  In one process they would share a setting
and disturb each other's threads.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Holds
from lossd.serving.allocator import keep_freed_memory
from lossd.serving.config import usable_cores

Array = npt.NDArray[Any]
Run = Callable[[], float]  # computes once and returns the loss


@dataclass(frozen=True, slots=True)
class Case:
    """One loss on one shape; every process draws the same inputs for it."""

    loss: str
    shape: tuple[int, ...]

    def inputs(self) -> tuple[Array, Array]:
        """Predictions and targets."""
        random = np.random.default_rng(0)
        predictions = random.standard_normal(self.shape, np.float32)
        if LOSSES[self.loss].input("targets").holds is Holds.CLASSES:
            return predictions, random.integers(0, self.shape[-1], self.shape[:-1])
        return predictions, random.random(self.shape, np.float32)


# ------------------------------------------------------------------ what each one runs


def lossd_runs() -> Callable[[Case], Run]:
    """The mean and its gradient, as the server computes them."""
    keep_freed_memory()
    engine = Engine(NumpyBackend(usable_cores()))

    def prepare(case: Case) -> Run:
        predictions, targets = case.inputs()
        job = Job(
            loss=LOSSES[case.loss],
            parameters={},
            inputs={"predictions": [predictions], "targets": [targets]},
            per_example=False,
        )
        return lambda: engine.run(job).loss or 0.0

    return prepare


def copy_runs() -> Callable[[Case], Run]:
    """Reads the inputs and writes as many bytes as the gradient has, without computing."""
    keep_freed_memory()

    def prepare(case: Case) -> Run:
        predictions, targets = case.inputs()

        def run() -> float:
            out = np.empty_like(predictions)
            np.copyto(out, predictions)
            if targets.shape == predictions.shape:
                targets.max()
            return np.nan

        return run

    return prepare


def torch_runs(*, compiled: bool) -> Callable[[Case], Run]:
    """Forward and backward in PyTorch."""
    import torch  # noqa: PLC0415 - an oracle, not a requirement

    torch.set_num_threads(usable_cores())

    def prepare(case: Case) -> Run:
        function = torch_functions()[case.loss]
        if compiled:
            torch.compiler.reset()  # else a dozen shapes count as one function that keeps changing
            function = torch.compile(function, dynamic=False)
        predictions, targets = (torch.from_numpy(array) for array in case.inputs())
        predictions.requires_grad_()

        def run() -> float:
            predictions.grad = None
            loss = function(predictions, targets)
            loss.backward()
            return float(loss.detach())

        return run

    return prepare


def torch_functions() -> dict[str, Callable[[Any, Any], Any]]:
    """PyTorch's own version of each loss."""
    from torch.nn import functional  # noqa: PLC0415 - an oracle, not a requirement

    return {
        "squared_error": functional.mse_loss,
        "absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
        "cross_entropy": functional.cross_entropy,
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    }


def _eager_runs() -> Callable[[Case], Run]:
    return torch_runs(compiled=False)


def _compiled_runs() -> Callable[[Case], Run]:
    return torch_runs(compiled=True)


# ------------------------------------------------------------------ a process each


class Contender:
    """One contender in a process of its own."""

    def __init__(self, setup: Callable[[], Callable[[Case], Run]]) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(setup, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, case: Case) -> float:
        """Draws the inputs, runs once (which compiles) and returns the loss."""
        return self._ask(case)

    def milliseconds(self, repetitions: int) -> float:
        """The mean time of some runs."""
        return self._ask(repetitions)

    def _ask(self, question: Case | int) -> float:
        self._connection.send(question)
        answer = self._connection.recv()
        if isinstance(answer, str):
            raise SystemExit(answer)
        return float(answer)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()


def contenders() -> dict[str, Contender]:
    """Everyone who is installed."""
    setups = {"lossd": lossd_runs, "copy": copy_runs}
    if importlib.util.find_spec("torch"):
        setups |= {"eager": _eager_runs, "compiled": _compiled_runs}
    return {name: Contender(setup) for name, setup in setups.items()}


def _serve(setup: Callable[[], Callable[[Case], Run]], connection: Connection) -> None:
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
                connection.send(run())
            elif run is not None:
                connection.send(_timed(run, question))
        except Exception as error:  # noqa: BLE001 - told to the parent, which ends
            connection.send(f"{setup.__name__}: {error!r}")


def _timed(run: Run, repetitions: int) -> float:
    started = time.perf_counter()
    for _ in range(repetitions):
        run()
    return (time.perf_counter() - started) / repetitions * 1e3
