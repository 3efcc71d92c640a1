"""A sum of one term says of each example, and of the whole, what its loss says."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lossd import sums
from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest
from lossd.losses import Loss, Shape
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.sums import SumJob, Term
from tests.drawn_networks import NETWORKS
from tests.losses.case import Array, Case
from tests.losses.compare import assert_same_bits
from tests.losses.test_tokens import flat, is_of_tokens
from tests.sampling import cases, coupled_cases, laid_out

HUGE = 1e30  # of a cotangent
POLICIES = (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO)


def forms(loss: Loss) -> Iterator[Case]:
    """A few variants, with tokens both ways, and with numbers that all examples share."""
    drawn = coupled_cases if loss.shape is Shape.COUPLED else cases
    for case in drawn(loss, rows=5, length=4):
        yield case
        if loss.shape is Shape.TOKENS and any(is_of_tokens(case, name) for name in case.inputs):
            yield flat(case)
        yield from without_axes(case)


def without_axes(case: Case) -> Iterator[Case]:
    """One example that has no axis of examples, where a loss takes such; also of one number."""
    parameters = {**case.parameters}
    if "batch_dims" in {declared.name for declared in case.loss.layout_parameters}:
        parameters["batch_dims"] = 0
    for place in (0, (0, 0)) if case.loss.shape is Shape.POINTWISE else (0,):
        inputs = {name: np.asarray(array[place]) for name, array in case.inputs.items()}
        single = replace(case, parameters=parameters, inputs=inputs)
        with contextlib.suppress(InvalidRequest):
            if example_shape(single) == ():
                yield single


def example_shape(case: Case) -> tuple[int, ...]:
    return laid_out(case.job(), NETWORKS).example_shape


def as_sum(engine: Engine, case: Case, **options: object) -> Result:
    """The result of the only term."""
    job = case.job(gradients=case.differentiable, **options)
    names = {declared.name: declared.name for declared in case.loss.inputs}
    term = Term(weight=1.0, job=replace(job, inputs={}), names=names)
    asked = SumJob(terms=(term,), inputs=job.inputs, gradients=job.gradients)
    return sums.run(engine, asked)


def alone(engine: Engine, case: Case, **options: object) -> Result:
    return engine.run(case.job(gradients=case.differentiable, **options))


def arrays(result: Result) -> dict[str, Array]:
    """The named gradients; those with respect to several tensors have names of their own."""
    found: dict[str, Array] = {}
    for name, gradient in result.gradients.items():
        several = gradient if isinstance(gradient, list) else [gradient]
        found |= {f"{name}[{place}]": array for place, array in enumerate(several)}
    return found


def assert_says_the_same(
    found: Result, expected: Result, what: object, *, rtol: float = 0.0
) -> None:
    assert found.nonfinite_examples.tolist() == expected.nonfinite_examples.tolist(), what
    assert found.statuses.indices.tolist() == expected.statuses.indices.tolist(), what
    assert found.statuses.numbers.tolist() == expected.statuses.numbers.tolist(), what
    assert found.status == expected.status, what
    assert isinstance(found.per_example, type(expected.per_example)), what
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in arrays(expected).items():
        assert isinstance(arrays(found)[name], np.ndarray), what
        np.testing.assert_allclose(arrays(found)[name], gradient, rtol, err_msg=f"{what} {name}")


def assert_is_refused_too(engine: Engine, case: Case, **options: object) -> None:
    for run in (alone, as_sum):
        with pytest.raises(InvalidRequest) as caught:
            run(engine, case, nonfinite=NonfinitePolicy.ERROR, **options)
        assert caught.value.reason == "NONFINITE_RESULT", case


def spoilt(case: Case) -> Iterator[Case]:
    """With one number that is NaN, of an input that may hold it."""
    parameters = case.loss.complete(case.parameters)
    free = [i.name for i in case.loss.inputs if i.under(parameters).domain is None]
    for name, array in case.inputs.items():
        if name.partition("[")[0] in {*free} & {*case.differentiable}:
            wrong = array.copy()
            wrong.flat[array.size // 2] = np.nan
            yield case.with_inputs(**{name: wrong})


def test_what_is_no_number_belongs_to_its_example(engine: Engine, any_loss: Loss) -> None:
    for case in forms(any_loss):
        for wrong in spoilt(case):
            for policy in POLICIES:
                expected = alone(engine, wrong, nonfinite=policy)
                found = as_sum(engine, wrong, nonfinite=policy)
                assert_says_the_same(found, expected, (wrong, list(wrong.inputs), policy))
            if len(expected.nonfinite_examples):
                assert_is_refused_too(engine, wrong)


def test_a_term_has_the_outputs_of_its_loss(engine: Engine, any_loss: Loss) -> None:
    """Also where an example is not finite."""
    for case in forms(any_loss):
        for each in (case, *spoilt(case)) if "outputs" in case.parameters else ():
            for policy in POLICIES:
                expected = alone(engine, each, nonfinite=policy).outputs
                found = as_sum(engine, each, nonfinite=policy)
                assert expected
                assert not found.outputs
                assert found.terms[0].outputs.keys() == expected.keys()
                for name, output in expected.items():
                    assert_same_bits(found.terms[0].outputs[name], output, (each, name))


@pytest.mark.parametrize("reduction", [Reduction.SUM, Reduction.MEAN, Reduction.BATCH_MEAN])
def test_an_example_whose_gradient_is_beyond_its_type_is_zeroed(
    engine: Engine, any_loss: Loss, reduction: Reduction
) -> None:
    """In float16, where the term itself is computed in float32."""
    if not any_loss.shape.has_values and reduction is not Reduction.MEAN:
        pytest.skip("has no other reduction")
    for drawn in forms(any_loss):
        case = drawn.astype(np.float16)
        shape = example_shape(case)
        weights = np.linspace(1, 2, math.prod(shape)).reshape(shape)
        cotangent = np.ones(shape if any_loss.shape.has_values else ())
        cotangent.flat[cotangent.size // 2] = HUGE
        options = {"cotangent": cotangent, "weights": weights, "reduction": reduction}
        for policy in POLICIES:
            expected = alone(engine, case, nonfinite=policy, **options)
            found = as_sum(engine, case, nonfinite=policy, **options)
            what = case, list(case.inputs), policy
            assert_says_the_same(found, expected, what, rtol=1e-3)
            if any_loss.shape is not Shape.OPPOSED:  # a sum of two means keeps that of all examples
                assert found.loss == pytest.approx(expected.loss, rel=1e-6, abs=1e-7), what
                assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-6, abs=1e-7), what
        if len(expected.nonfinite_examples):
            assert_is_refused_too(engine, case, **options)
