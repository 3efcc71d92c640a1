"""The work of ``lossd bench``: a loss with its parameters, and inputs of a shape."""

import contextlib
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from lossd import tensors, v1
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.cli.failures import told
from lossd.cli.input_shapes import usual_shapes
from lossd.cli.measuring import Subject
from lossd.cli.names import loss_messages, loss_named
from lossd.cli.parameters import set_parameters
from lossd.cli.random_inputs import random_inputs
from lossd.cli.snippets import argument
from lossd.client import LossClient
from lossd.engine import Engine
from lossd.errors import InvalidRequest
from lossd.losses import LAYERS, LOSSES, NETWORK, Content, Example, Loss, ParameterError
from lossd.naming import guess
from lossd.schema import REQUIRED
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.wire.parameters import read_parameters
from lossd.v1.losses import Loss as Message

DTYPES = {one.name: one for one in tensors.type_of_dtype if one.kind in "fV"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A loss with its parameters as ``--param`` has them, the names of its inputs, and a type."""

    loss: Loss
    message: Message
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    dtype: str

    def usual_shapes(self) -> Sequence[tuple[int, ...]]:
        """Returns shapes to measure where none is given."""
        return usual_shapes(self.loss, self._values())

    def random_inputs(self, shape: tuple[int, ...], most: int | None = None) -> dict[str, Any]:
        """Draws its inputs, the first of a shape, or of a smaller one as ``random_inputs`` says.

        Raises:
            click.UsageError: if the first input cannot have it.
        """
        return random_inputs(
            self.loss, self._values(), self.inputs, shape, DTYPES[self.dtype], most=most
        )

    def subject(self, client: LossClient, shape: tuple[int, ...], *, is_shared: bool) -> Subject:
        """Returns what to time; for shared memory its large inputs lie there already."""
        inputs = self.random_inputs(shape)
        first = inputs[self.loss.inputs[0].name]
        if is_shared:
            inputs = {
                name: _placed(client, array) if array.nbytes >= first.nbytes else array
                for name, array in inputs.items()
            }
        size = sum(array.nbytes for array in inputs.values())
        return Subject(functools.partial(client.compute, self.message, **inputs), size)

    def is_accepted(self) -> bool:
        """Returns whether no rule between parameters and inputs refuses it."""
        inputs = {
            name: [array] for name, array in self.random_inputs(self.usual_shapes()[0]).items()
        }
        job = Job(loss=self.loss, parameters=self._given(), inputs=inputs)
        with contextlib.closing(Engine(NumpyBackend(threads=1))) as engine:
            try:
                engine.run(job)
            except InvalidRequest:
                return False
        return True

    def _given(self) -> Mapping[str, Any]:
        return read_parameters(self.loss, self.message)

    def _values(self) -> Mapping[str, Any]:
        """Returns all parameters, with the defaults."""
        with told():
            given = self._given()
        try:
            return self.loss.complete(given)
        except ParameterError as error:
            raise click.UsageError(str(error)) from error


def workload(text: str, given: Sequence[str], also: Sequence[str], dtype: str) -> Workload:
    """Returns the loss, the parameters and the inputs that are measured.

    Parameters that it cannot do without and that are not ``given`` are those of its worked example
    which is most like what was given.  ``also`` are names of optional inputs.

    Raises:
        click.UsageError: if the loss, a parameter or an input is unknown, or if it is a sum.
    """
    name = loss_named(text)
    if name == WEIGHTED_SUM:
        raise click.UsageError(f"loss must be a single one, got {name}")
    loss, kind = LOSSES[name], getattr(v1, loss_messages()[name])
    typed = kind()
    set_parameters(typed, given)
    example = _most_alike(loss, kind, typed)
    inputs = _names(loss, example, also)
    _check_network(loss, typed)
    for taken in (_required(loss), set(example.parameters)):
        texts = (*given, *_texts(example, taken - {text.partition("=")[0] for text in given}))
        message = kind()
        set_parameters(message, texts)
        found = Workload(loss, message, texts, inputs, dtype)
        if found.is_accepted():
            break
    return found


def _check_network(loss: Loss, typed: Message) -> None:
    """Checks that a loss that looks through a network was told which, and where in it."""
    needed = {one.name for one in (NETWORK, LAYERS) if one in loss.all_parameters}
    missing = sorted(needed - {field.name for field, _ in typed.ListFields()})
    if missing:
        wanted = " ".join(f"--param {name}=..." for name in missing)
        raise click.UsageError(f"{wanted} must be given for {loss.name}, as the server knows them")


def _required(loss: Loss) -> set[str]:
    return {p.name for p in loss.all_parameters if p.default is REQUIRED}


def _texts(example: Example, names: Collection[str]) -> tuple[str, ...]:
    """Returns some parameters of an example, as they are typed."""
    given = example.parameters.items()
    return tuple(f"{name}={argument(value)}" for name, value in given if name in names)


def _most_alike(loss: Loss, kind: Any, typed: Any) -> Example:
    """Returns the worked example that shares the most parameters with a message."""

    def shared(example: Example) -> int:
        message = kind()
        set_parameters(message, _texts(example, example.parameters))
        return sum(getattr(message, field.name) == value for field, value in typed.ListFields())

    return max(loss.examples, key=shared)


def _names(loss: Loss, example: Example, also: Sequence[str]) -> tuple[str, ...]:
    """Returns the inputs that are sent, in the order of the declaration."""
    known = {one.name: one for one in loss.inputs}
    for one in also:
        if one not in known:
            raise click.UsageError(
                f"--input must be among {', '.join(known)} for {loss.name}, got {one}"
                + guess(one, known)
            )
    # Which tokens there are is left out: they all are.
    layout = (Content.FLAGS, Content.LENGTHS, Content.OFFSETS)
    wanted = {*also, *(n for n in example.inputs if known[n].content not in layout)}
    return tuple(n for n, one in known.items() if not one.is_optional or n in wanted)


def _placed(client: LossClient, array: Any) -> Any:
    """Returns the same numbers in shared memory."""
    found = client.empty(array.shape, array.dtype)
    np.copyto(found, array)
    return found
