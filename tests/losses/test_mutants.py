"""The contract bites: of copies of a declaration that are each broken in one way, none passes."""

import inspect
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.losses import LOSSES, BodyResult, Loss, Shape
from lossd.reduction import Reduction
from tests.drawn_networks import NETWORKS
from tests.losses import (
    test_coupled,
    test_features,
    test_gradients,
    test_images,
    test_layout,
    test_opposed,
    test_outputs,
    test_reductions,
    test_regions,
    test_rows,
    test_sequences,
    test_sets,
    test_tokens,
    test_values,
)
from tests.losses.case import Case, values
from tests.sampling import cases, extreme

Body = Callable[..., BodyResult]
Mutation = Callable[[Loss], Body]

MODULES = (
    test_regions, test_values, test_gradients, test_rows, test_layout, test_reductions,
    test_outputs,
)  # fmt: skip
# The contracts of losses whose examples are no rows of their own.
MODULES_OF = {
    Shape.SETWISE: (test_sets,),
    Shape.COUPLED: (test_coupled,),
    Shape.SEQUENCE: (test_sequences,),
    Shape.OPPOSED: (test_opposed,),
    Shape.FEATURES: (test_features,),
    Shape.IMAGES: (test_images,),
    Shape.TOKENS: (test_tokens,),
}


@pytest.fixture
def loss(any_loss: Loss) -> Loss:
    """Here it may be of any shape."""
    return any_loss


@pytest.fixture(scope="module")
def numpy_engine() -> Iterator[Engine]:
    made = Engine(NumpyBackend(1), NETWORKS)
    yield made
    made.backend.close()


def _checks(module: ModuleType) -> list[Callable[[Engine, Loss], None]]:
    """The contracts that take nothing but an engine and a loss."""
    return [
        check
        for name, check in vars(module).items()
        if name.startswith("test_")
        and list(inspect.signature(check).parameters) == ["engine", "loss"]
    ]


def _is_for(check: Callable[[Engine, Loss], None], loss: Loss) -> bool:
    """Returns whether a contract is for a loss: some list the losses that they are for."""
    marks = (m for m in getattr(check, "pytestmark", ()) if m.name == "parametrize")
    lists = [mark.args[1] for mark in marks if mark.args[0] == "loss"]
    return all(loss.name in {listed.name for listed in losses} for losses in lists)


def _first_failure(engine: Engine, broken: Loss) -> str | None:
    for module in MODULES_OF.get(broken.shape, MODULES):
        for check in _checks(module):
            if not _is_for(check, broken):
                continue
            try:
                check(engine, broken)
            except pytest.skip.Exception:
                continue
            except Exception:  # noqa: BLE001 - a contract may notice in any way
                return check.__name__
    return None


def _with_value(change: Callable[[Any], Any]) -> Mutation:
    def mutate(loss: Loss) -> Body:
        def body(xp: Any, *inputs: Any, **parameters: Any) -> BodyResult:
            sound = loss.body(xp, *inputs, **parameters)
            return replace(sound, value=change(sound.value))

        return body

    return mutate


def _with_gradients(change: Callable[[Any], Any]) -> Mutation:
    def mutate(loss: Loss) -> Body:
        def body(xp: Any, *inputs: Any, **parameters: Any) -> BodyResult:
            sound = loss.body(xp, *inputs, **parameters)
            vectors = {declared.name for declared in loss.inputs}
            changed: Mapping[str, Any] = {
                name: change(sound.gradient(name))
                if name.partition("[")[0] in vectors
                else sound.gradient(name)
                for name in sound.gradients
                # Class indices have no gradient.
                if name == loss.inputs[0].name or np.ndim(inputs[1]) == np.ndim(inputs[0])
            }
            return replace(sound, gradients=changed)

        return body

    return mutate


def _with_outputs(change: Callable[[Any], Any]) -> Mutation:
    def mutate(loss: Loss) -> Body:
        def body(xp: Any, *inputs: Any, **parameters: Any) -> BodyResult:
            sound = loss.body(xp, *inputs, **parameters)
            return replace(sound, outputs={n: change(o) for n, o in sound.outputs.items()})

        return body

    return mutate


def _writes_to_an_input(loss: Loss) -> Body:
    def body(xp: Any, *inputs: Any, **parameters: Any) -> BodyResult:
        sound = loss.body(xp, *inputs, **parameters)
        if inputs[0].flags.writeable:
            inputs[0][...] = 0
        return sound

    return body


def _sees_the_row_above(value: Any) -> Any:
    """Of a set, whose value is one number, it sees itself."""
    return value + 1e-9 * np.roll(value, 1, axis=0 if np.ndim(value) else None)


def _sees_how_many_rows_there_are(gradient: Any) -> Any:
    return gradient * (1 + 1e-6 * (len(gradient) % 2))


def _drops_its_last_column(gradient: Any) -> Any:
    changed = gradient.copy()
    changed[:, -1] = 0
    return changed


MUTATIONS: dict[str, Mutation] = {
    "halved value": _with_value(lambda value: value * 0.5),
    "value off by 1e-9": _with_value(lambda value: value + 1e-9),
    "value without NaN": _with_value(np.nan_to_num),
    "value rounded to float16": _with_value(
        lambda v: np.asarray(v).astype(np.float16).astype(np.asarray(v).dtype)
    ),
    "a row that sees another": _with_value(_sees_the_row_above),
    "negated gradient": _with_gradients(np.negative),
    "gradient of the wrong size": _with_gradients(lambda gradient: gradient * 1.0001),
    "gradient without NaN": _with_gradients(np.nan_to_num),
    "gradient that flushes small numbers": _with_gradients(
        lambda gradient: np.where(abs(gradient) < 1e-3, 0, gradient)
    ),
    "gradient that loses a column": _with_gradients(_drops_its_last_column),
    "gradient that sees the batch": _with_gradients(_sees_how_many_rows_there_are),
    "gradient rounded to float16": _with_gradients(
        lambda gradient: gradient.astype(np.float16).astype(gradient.dtype)
    ),
    "gradient of 1 where it is 0": _with_gradients(
        lambda gradient: np.where(gradient == 0, 1, gradient)
    ),
    "output off by one part in a billion": _with_outputs(lambda output: output * (1 + 1e-9)),
    "output that sees another": _with_outputs(_sees_the_row_above),
    "writes to an input": _writes_to_an_input,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_loss_breaks_a_contract(numpy_engine: Engine, loss: Loss, mutation: str) -> None:
    if mutation.startswith("output") and "outputs" not in {p.name for p in loss.parameters}:
        pytest.skip("it has no outputs")
    broken = replace(loss, body=MUTATIONS[mutation](loss))
    failure = _first_failure(numpy_engine, broken)
    if failure is None and not _differs(numpy_engine, broken, loss):
        pytest.skip("it is no other loss: the gradient is 1, 0 or -1")
    assert failure, "nothing noticed"


def _differs(engine: Engine, broken: Loss, loss: Loss) -> bool:
    """Whether anything that is sampled changes."""
    reduction = Reduction.NONE if loss.shape.has_values else Reduction.MEAN
    for case, judges_order in (*((c, True) for c in cases(loss)), *_extremes(loss)):
        options: Any = {"reduction": reduction, "gradients": case.differentiable}
        sound, changed = (
            engine.run(replace(case, loss=either).job(**options)) for either in (loss, broken)
        )
        if sound.loss_sum != changed.loss_sum:
            return True
        if loss.shape.has_values and (values(sound) != values(changed)).any():
            return True
        if judges_order and any(
            (g != changed.gradients[n]).any() for n, g in sound.gradients.items()
        ):
            return True
        if any((o != changed.outputs[n]).any() for n, o in sound.outputs.items()):
            return True
    return False


def _extremes(loss: Loss) -> Iterator[tuple[Case, bool]]:
    """These have equals, among which the contract does not judge a gradient that is an order."""
    for case in extreme(loss):
        yield case, not loss.is_ordered


def test_a_loss_that_forgets_a_parameter_breaks_a_contract(
    numpy_engine: Engine,
    loss: Loss,
    whole: bool,  # noqa: FBT001
) -> None:
    """Forgets one parameter, always the same; ``--whole`` forgets each in turn."""
    drawn = sorted(loss.parameters, key=lambda p: zlib.crc32(f"{loss.name}.{p.name}".encode()))
    for forgotten in drawn if whole else drawn[:1]:

        def body(
            xp: Any, *inputs: Any, _name: str = forgotten.name, **parameters: Any
        ) -> BodyResult:
            parameters.pop(_name)
            return loss.body(xp, *inputs, **parameters)

        assert _first_failure(numpy_engine, replace(loss, body=body)), forgotten.name


def test_a_gradient_that_is_not_zero_at_its_kink_breaks_that_contract(
    numpy_engine: Engine, loss: Loss
) -> None:
    broken = replace(loss, body=MUTATIONS["gradient of 1 where it is 0"](loss))
    with pytest.raises(AssertionError):
        test_gradients.test_the_gradient_at_a_kink_is_zero(numpy_engine, broken)


@pytest.mark.parametrize("loss", test_values.WITHOUT_A_BOUND, ids=lambda loss: loss.name)
def test_an_infinite_value_that_is_bounded_breaks_a_contract(
    numpy_engine: Engine, loss: Loss
) -> None:
    bounded = _with_value(lambda v: np.where(np.isposinf(v), np.asarray(v).dtype.type(100), v))
    assert _first_failure(numpy_engine, replace(loss, body=bounded(loss))), "nothing noticed"


def test_there_are_contracts_to_break() -> None:
    assert all(len(_checks(module)) >= 3 for module in (*MODULES, *chain(*MODULES_OF.values())))


@pytest.mark.parametrize("shape", MODULES_OF, ids=lambda shape: shape.name)
def test_a_sound_loss_breaks_none(numpy_engine: Engine, shape: Shape) -> None:
    """The contracts run here as elsewhere, so what breaks one above is what was planted."""
    sound = next(loss for loss in LOSSES.values() if loss.shape is shape)
    assert _first_failure(numpy_engine, sound) is None
