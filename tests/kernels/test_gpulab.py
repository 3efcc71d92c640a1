"""The same cases in gpulab, a stricter execution of CUDA C++ on the CPU, where it is at hand.

It runs a block's threads in several orders, fills shared memory with NaN and finds shuffles from
absent lanes; under its sanitizers also races and accesses out of bounds.  None of it is hardware.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.kernels import Kernel, Launch, _source
from lossd.losses import Shape
from lossd.losses._maths.policy_tokens import PolicyRatio
from tests.kernels import cases, tokens
from tests.kernels.cases import Variant, make_case

pytestmark = pytest.mark.usefixtures("ignoring_float_errors")

ROOT = Path(__file__).parents[2]
GPULAB = Path(os.environ.get("GPULAB") or ROOT.parent / "shared" / "gpulab")
# One kernel with every kind of reduction in it, at a length of several warps and odd rows.
SAMPLE = "1201-cross_entropy-1-parameters-float32"


@pytest.fixture(scope="module")
def host() -> Any:
    if not (GPULAB / "python" / "gpulab").is_dir():
        pytest.skip(f"gpulab is not at {GPULAB}")
    if str(GPULAB / "python") not in sys.path:
        sys.path.append(str(GPULAB / "python"))
    return pytest.importorskip("gpulab.host", exc_type=ImportError)


class _Scheduled:
    """Executes kernels under one order of threads."""

    def __init__(self, host: Any, schedule: str) -> None:
        self._host = host
        self._schedule = schedule

    def __call__(self, kernel: Kernel, launch: Launch, arguments: tuple[Any, ...]) -> None:
        function = self._host.HostModule(kernel.source, kernel.names).get_function(launch.name)
        function(
            (launch.blocks,),
            (launch.threads, launch.rows),
            arguments,
            shared_mem=launch.shared_bytes,
            schedule=self._schedule,
        )


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        (variant, dtype)
        for variant in cases.VARIANTS
        for dtype in cases.DTYPES
        if not variant.plain and dtype == cases.FLOAT32
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [1, 31, 1201])
def test_bits_do_not_depend_on_the_order_of_threads(
    host: Any, variant: Variant, dtype: np.dtype[Any], length: int
) -> None:
    case = make_case(variant, dtype, length, misaligned=length == 31)
    values, gradient = case.run(_Scheduled(host, "forward"))
    assert gradient is not None
    expected_values, expected_gradient = case.expected()
    np.testing.assert_allclose(values, expected_values, 2e-6, 2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, 2e-6, 2e-6)
    for schedule in ("reverse", "random"):
        other_values, other_gradient = case.run(_Scheduled(host, schedule))
        assert other_gradient is not None
        assert other_values.tobytes() == values.tobytes()
        assert other_gradient.tobytes() == gradient.tobytes()


@pytest.mark.parametrize(
    "parameters",
    [p for p in tokens.policies() if p["ratio"] is PolicyRatio.SEQUENCE],
    ids=lambda p: p["objective"].name,
)
def test_bits_of_tokens_do_not_depend_on_the_order_of_threads(
    host: Any, parameters: dict[str, Any]
) -> None:
    batch = tokens.draw(parameters, cases.FLOAT32, by_sequence=True)
    found = [batch.on_device(_Scheduled(host, s)) for s in ("forward", "reverse", "random")]
    wanted = batch.expected()
    np.testing.assert_allclose(found[0].values, wanted.values, 2e-6, 2e-6)
    np.testing.assert_allclose(found[0].gradient, wanted.gradient, 2e-6, 2e-6)
    for other in found[1:]:
        assert other.values.tobytes() == found[0].values.tobytes()
        assert other.gradient.tobytes() == found[0].gradient.tobytes()


@pytest.mark.parametrize(
    "variant",
    [v for v in cases.VARIANTS if not v.plain and v.loss.shape is Shape.POINTWISE],
    ids=str,
)
def test_bits_of_segments_do_not_depend_on_the_order_of_threads(
    host: Any, monkeypatch: pytest.MonkeyPatch, variant: Variant
) -> None:
    monkeypatch.setattr("lossd.kernels._launch.SEGMENT", 2048)
    case = make_case(variant, cases.FLOAT32, 5003)
    found = [case.run(_Scheduled(host, s)) for s in ("forward", "reverse", "random")]
    for array, wanted in zip(found[0], case.expected(), strict=True):
        assert array is not None
        np.testing.assert_allclose(array, wanted, 2e-6, 2e-6)
    bits = {tuple(array.tobytes() for array in one if array is not None) for one in found}
    assert len(bits) == 1


def test_a_missing_barrier_is_found(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = "__syncthreads();  // every part must be there before one is read"
    template = _source.read_template
    assert barrier in template("common.cuh")
    monkeypatch.setattr(_source, "read_template", lambda name: template(name).replace(barrier, ""))
    variant = next(v for v in cases.VARIANTS if v.loss.name == "squared_error")
    case = make_case(variant, cases.FLOAT32, 5003).rows(slice(0, 1))
    right = case.expected()[0]
    found = [case.run(_Scheduled(host, s))[0] for s in ("forward", "reverse", "random")]
    assert not all(np.allclose(values, right) for values in found)


@pytest.mark.parametrize("mode", ["address", "thread"])
def test_sanitizers_find_nothing(host: Any, mode: str) -> None:
    test = test_bits_do_not_depend_on_the_order_of_threads.__name__
    done = host.run_sanitized(
        mode,
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider",
         f"{__file__}::{test}[{SAMPLE}]"],
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
