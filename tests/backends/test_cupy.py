"""The CuPy backend against the NumPy backend.

Tests with the marker ``gpu`` run on whatever device CuPy finds, a real one or gpulab's fake one.
The contract tests of ``tests/losses`` run on it as well.
"""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends import _compiled, _tasks
from lossd.backends import cupy as backend
from lossd.backends._pinned import Staging
from lossd.backends.choose import BackendChoice, choose
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import BackendUnavailable, DeviceFull, InvalidTensor
from lossd.losses import LOSSES, Content, Loss, Shape
from lossd.losses._maths import pairwise_similarities as _similarity
from lossd.losses._maths.overlap import EmptyTarget
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.serving.config import Config
from lossd.serving.process.device_check import check_device
from lossd.shapes import _blocks
from tests.device import own_pool, stand_in_for_sorting
from tests.drawn_networks import NETWORKS
from tests.losses.case import Case
from tests.sampling import cases, plain

gpu = pytest.mark.gpu
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}
DTYPES: list[npt.DTypeLike] = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
# Drawn rows, for kernels with vector loads, tails and more than one warp.
ROWS, LENGTH = 6, 1103


@pytest.fixture(scope="module")
def cupy_engine() -> Iterator[Engine]:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    stand_in_for_sorting(backend._import_cupy())
    made = Engine(backend.CupyBackend(), NETWORKS)
    yield made
    made.backend.close()


@pytest.fixture(scope="module")
def numpy_engine() -> Iterator[Engine]:
    made = Engine(NumpyBackend(1), NETWORKS)
    yield made
    made.backend.close()


def _assert_close(left: Result, right: Result, tolerance: float) -> None:
    def check(actual: Any, desired: Any) -> None:
        # bfloat16 is no number to NumPy's own comparisons.
        actual, desired = (np.asarray(a, np.float64) for a in (actual, desired))
        scale = np.abs(desired[np.isfinite(desired)]).max(initial=1)
        np.testing.assert_allclose(actual, desired, tolerance, tolerance * scale)

    if right.per_example is not None:
        check(left.per_example, right.per_example)
    check(left.loss_sum, right.loss_sum)
    assert left.gradients.keys() == right.gradients.keys()
    for name, gradient in left.gradients.items():
        assert gradient.dtype == right.gradients[name].dtype
        check(gradient, right.gradients[name])
    np.testing.assert_array_equal(left.nonfinite_examples, right.nonfinite_examples)
    np.testing.assert_array_equal(left.statuses.indices, right.statuses.indices)
    np.testing.assert_array_equal(left.statuses.numbers, right.statuses.numbers)
    assert left.status == right.status
    assert (left.example_count, left.weight_sum) == (right.example_count, right.weight_sum)


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_every_variant_equals_numpy(
    cupy_engine: Engine, numpy_engine: Engine, any_loss: Loss, dtype: npt.DTypeLike
) -> None:
    length = LENGTH if any_loss.shape.has_values else 2  # of a set these are its labels
    for case in cases(any_loss, rows=ROWS, length=length, interior=True):
        if any_loss.shape is Shape.COUPLED:
            # Similarities over a temperature are exponents.  Of 650 float32 has four places behind
            # the point, and what is last in them depends on the order of a product.
            case = _shrunk(case)  # noqa: PLW2901 - the same on a scale that float32 has digits for
        job = case.astype(dtype).job()
        tolerance = TOLERANCE[np.dtype(dtype).name]
        _assert_close(cupy_engine.run(job), numpy_engine.run(job), tolerance)


def _shrunk(case: Case) -> Case:
    return case.with_inputs(
        **{name: array / 10 for name, array in case.inputs.items() if array.dtype.kind == "f"}
    )


@gpu
def test_gradients_on_request_come_from_the_body(
    cupy_engine: Engine, numpy_engine: Engine, any_loss: Loss
) -> None:
    for case in cases(any_loss, interior=True):
        job = case.astype(np.float64).job(gradients=case.differentiable)
        _assert_close(cupy_engine.run(job), numpy_engine.run(job), 1e-12)


def _with_nan(case: Case, row: int) -> Case:
    spoilt = case.inputs[case.first].copy()
    spoilt[row] = np.nan
    return case.with_inputs(**{case.first: spoilt})


@gpu
@pytest.mark.parametrize("reduction", Reduction)
def test_weights_masks_and_cotangents_equal_numpy(
    cupy_engine: Engine, numpy_engine: Engine, loss: Loss, reduction: Reduction
) -> None:
    case = _with_nan(plain(loss).astype(np.float64), 1)
    weights = np.linspace(0, 2, case.count)
    mask = np.arange(case.count) != 1
    cotangent = np.linspace(-1, 3, case.count)
    job = case.job(weights=weights, mask=mask, cotangent=cotangent, reduction=reduction)
    found = cupy_engine.run(job)
    _assert_close(found, numpy_engine.run(job), 1e-12)
    for row in (0, 1):  # of weight 0, and masked with NaN in it
        assert found.per_example is not None
        assert found.per_example[row] == 0
        assert (found.gradients[case.first][row] == 0).all()


@gpu
@pytest.mark.parametrize("policy", [NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO])
def test_rows_that_are_not_finite_are_seen(
    cupy_engine: Engine, numpy_engine: Engine, loss: Loss, policy: NonfinitePolicy
) -> None:
    job = _with_nan(plain(loss).astype(np.float64), 2).job(nonfinite=policy)
    found = cupy_engine.run(job)
    assert found.nonfinite_examples.tolist() == [2]
    _assert_close(found, numpy_engine.run(job), 1e-12)


@gpu
def test_a_batch_of_no_rows_gives_nothing(cupy_engine: Engine, loss: Loss) -> None:
    case = plain(loss).rows(slice(0))
    found = cupy_engine.run(case.job())
    assert found.loss == 0
    assert found.gradients[case.first].size == 0


@gpu
def test_rows_have_the_same_bits_in_any_tile(
    cupy_engine: Engine, loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plain(loss).job(reduction=Reduction.SUM)
    whole = cupy_engine.run(job)
    monkeypatch.setattr(_tasks, "TILE_BYTES", 1)
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 1)  # of which a piece is one at least
    tiled = cupy_engine.run(job)
    assert whole.per_example is not None
    assert tiled.per_example is not None
    assert whole.per_example.tobytes() == tiled.per_example.tobytes()
    for name, gradient in whole.gradients.items():
        assert gradient.tobytes() == tiled.gradients[name].tobytes()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """A few threads for all tests: the fake device keeps stacks for every one that ever was."""
    with ThreadPoolExecutor(4) as made:
        yield made


@gpu
def test_calls_from_many_threads_do_not_mix(
    cupy_engine: Engine, pool: ThreadPoolExecutor, loss: Loss
) -> None:
    jobs = [case.job() for case in cases(loss, interior=True)]
    alone = [cupy_engine.run(job) for job in jobs]
    together = list(pool.map(cupy_engine.run, jobs))
    for left, right in zip(alone, together, strict=True):
        assert left.loss_sum == right.loss_sum


@gpu
def test_a_warm_call_is_copies_and_one_launch(fake: Any, cupy_engine: Engine) -> None:
    rows = {"predictions": [np.zeros((2, 3))], "targets": [np.ones((2, 3))]}
    job = Job(loss=LOSSES["huber"], parameters={}, inputs=rows)
    cupy_engine.run(job)
    with fake.recorded() as lines:
        cupy_engine.run(job)
    calls = [line.split()[0] for line in lines]
    # Back come values, the gradient, and which rows are not finite.
    there = [*["memcpyAsync"] * 2, "eventRecord", "streamWaitEvent"]
    back = ["eventRecord", "streamWaitEvent", *["memcpyAsync"] * 3, "eventRecord"]
    assert calls == [*there, "launch", *back, "eventSynchronize"]
    assert not fake.violations()


@gpu
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", ["cross_entropy", "huber", "gaussian_nll"])
def test_16_bits_go_there_and_back_as_they_are(
    fake: Any, cupy_engine: Engine, name: str, dtype: npt.DTypeLike
) -> None:
    count, length = 5, 24
    loss = LOSSES[name]
    inputs: dict[str, Any] = {i.name: [np.ones((count, length), dtype)] for i in loss.inputs}
    there = 2 * count * length * len(inputs)
    if name == "cross_entropy":
        inputs["targets"] = [np.arange(count)]
        there += (8 - 2 * length) * count
    job = Job(loss=loss, parameters={}, inputs=inputs)
    cupy_engine.run(job)
    with fake.recorded() as lines:
        cupy_engine.run(job)
        up, down = (sum(copy.bytes for copy in fake.copies(way)) for way in ("H2D", "D2H"))
    assert [line.split()[0] for line in lines].count("launch") == 1
    assert (up, down) == (there, (4 + 1) * count + 2 * count * length)


@gpu
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: d.__name__)
def test_16_bits_of_whole_batches_stay_16_bits(
    fake: Any, cupy_engine: Engine, dtype: npt.DTypeLike
) -> None:
    rng = np.random.default_rng(3)
    inputs: dict[str, Any] = {
        name: [rng.normal(size=(6, 40)).astype(dtype)] for name in ("queries", "keys")
    }
    job = Job(loss=LOSSES["info_nce"], parameters={}, inputs=inputs)
    cupy_engine.run(job)
    with fake.recorded():
        cupy_engine.run(job)
        up, down = (
            [copy.bytes for copy in fake.copies(way) if copy.bytes >= 6 * 40]
            for way in ("H2D", "D2H")
        )
    assert up == down == [2 * 6 * 40] * 2


@gpu
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: d.__name__)
def test_results_are_rounded_on_the_device(
    fake: Any, cupy_engine: Engine, dtype: npt.DTypeLike
) -> None:
    """By a loss whose body runs on the device, of which no number of float32 comes back."""
    count, length = 5, 24
    case = {name: [np.ones((count, length), dtype)] for name in ("predictions", "targets")}
    job = Job(loss=LOSSES["lovasz_hinge"], parameters={}, inputs=case)
    cupy_engine.run(job)
    with fake.recorded():
        cupy_engine.run(job)
        back = [copy.bytes for copy in fake.copies("D2H")]
    assert sorted(back[-3:]) == sorted([4 * count, count, 2 * count * length])


@gpu
def test_coupled_losses_take_few_launches(
    fake: Any, cupy_engine: Engine, coupled_loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for 8192 examples, at a share of the size: a panel then is that much smaller too."""
    count, share = 256, 8192 // 256
    at_once = _similarity._AT_ONCE
    smaller = replace(
        at_once,
        panel_bytes=at_once.panel_bytes // share**2,
        block_bytes=at_once.block_bytes // share**2,
    )
    monkeypatch.setattr(_similarity, "_AT_ONCE", smaller)
    rng = np.random.default_rng(3)
    inputs: dict[str, Any] = {
        declared.name: [
            rng.integers(0, 32, count)
            if declared.content is Content.LABELS
            else rng.normal(size=(count, 8)).astype(np.float32)
        ]
        for declared in coupled_loss.inputs
        if not declared.is_optional
    }
    job = Job(loss=coupled_loss, parameters={}, inputs=inputs)
    cupy_engine.run(job)
    with fake.recorded() as lines:
        cupy_engine.run(job)
    calls = Counter(line.split()[0] for line in lines)
    # Distances are in float64, of which a panel has half as many rows.
    panels = 2 if coupled_loss.name == "batch_triplet" else 1
    assert calls["launch"] <= 150 * panels
    assert calls["streamSynchronize"] <= 10 * panels


@gpu
def test_sequences_take_few_launches(fake: Any, cupy_engine: Engine) -> None:
    """However many frames and labels they have."""
    rng = np.random.default_rng(3)
    inputs: dict[str, Any] = {
        "predictions": [rng.normal(size=(4, 40, 5)).astype(np.float32)],
        "targets": [rng.integers(1, 5, (4, 9))],
    }
    job = Job(loss=LOSSES["ctc"], parameters={}, inputs=inputs)
    cupy_engine.run(job)
    with fake.recorded() as lines:
        cupy_engine.run(job)
    assert Counter(line.split()[0] for line in lines)["launch"] <= 10


@gpu
@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_single_regions_take_one_launch(fake: Any, cupy_engine: Engine, name: str) -> None:
    rng = np.random.default_rng(3)
    inputs: dict[str, Any] = {
        "predictions": [rng.normal(size=(4, 30, 20)).astype(np.float32)],
        "targets": [rng.integers(0, 2, (4, 30, 20)).astype(np.float32)],
    }
    job = Job(loss=LOSSES[name], parameters={}, inputs=inputs)
    cupy_engine.run(job)
    with fake.recorded() as lines:
        cupy_engine.run(job)
    assert Counter(line.split()[0] for line in lines)["launch"] == 1


@gpu
def test_examples_without_a_target_have_their_status(
    cupy_engine: Engine, numpy_engine: Engine
) -> None:
    inputs = {"predictions": [np.zeros((3, 4))], "targets": [np.eye(3, 4, -1)]}
    job = Job(loss=LOSSES["dice"], parameters={"empty_target": EmptyTarget.SKIP}, inputs=inputs)
    found = cupy_engine.run(job)
    assert found.statuses.indices.tolist() == [0]
    _assert_close(found, numpy_engine.run(job), 1e-12)


@gpu
def test_masked_examples_are_absent_from_sets(
    cupy_engine: Engine, numpy_engine: Engine, set_loss: Loss
) -> None:
    case = _with_nan(plain(set_loss), 1)
    mask, weights = np.arange(case.count) != 1, np.linspace(0, 2, case.count)
    job = case.job(mask=mask, weights=weights, gradients=case.differentiable)
    found = cupy_engine.run(job)
    _assert_close(found, numpy_engine.run(job), 1e-12)
    assert found.loss == cupy_engine.run(job).loss
    for gradient in found.gradients.values():
        assert not gradient[:2].any()  # of weight 0, and masked


@gpu
def test_checkpoints_can_stop_a_call(cupy_engine: Engine, any_loss: Loss) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        cupy_engine.run(plain(any_loss).job(), checkpoint=stop)


@gpu
def test_targets_outside_their_domain_are_refused(cupy_engine: Engine) -> None:
    inputs = {"predictions": [np.zeros((1, 2))], "targets": [np.array([[0.5, 2.0]])]}
    with pytest.raises(InvalidTensor, match=r"targets\[0, 1\] must be in \[0, 1\], got 2"):
        cupy_engine.run(Job(loss=LOSSES["binary_cross_entropy"], parameters={}, inputs=inputs))


@gpu
def test_a_full_device_is_news_for_the_caller(cupy_engine: Engine, loss: Loss) -> None:
    job = plain(loss).job()
    with own_pool(backend._import_cupy()) as pool:
        pool.set_limit(size=1)
        with pytest.raises(DeviceFull, match="must fit into the device's memory"):
            cupy_engine.run(job)
    assert cupy_engine.run(job).example_count == plain(loss).count


def _probe_in_a_process(code: str, **environment: str) -> str:
    """Returns what ``probe`` says in a process of its own, which has not imported CuPy yet."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(backend.probe())"],
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT = "import sys; from lossd.backends import cupy as backend"


def test_the_module_can_be_imported_without_cupy() -> None:
    hidden = f"{IMPORT}; assert 'cupy' not in sys.modules; sys.modules['cupy'] = None"
    assert "there is no CuPy: pip install 'lossd[cuda13]'" in _probe_in_a_process(hidden)


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path) -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    obstacle = tmp_path / "file"
    obstacle.write_text("a file is no folder, not even for root")
    environment = {"CUPY_CACHE_DIR": str(obstacle / "cache"), "TMPDIR": str(tmp_path)}
    assert "CuPy" not in _probe_in_a_process(IMPORT, **environment)
    assert list(tmp_path.glob("lossd-cupy-*"))


@pytest.mark.parametrize("wanted", ["", "cub", "cub,cutensor"])
def test_no_accelerator_computes_whatever_the_environment_says(wanted: str) -> None:
    pytest.importorskip("cupy", exc_type=ImportError)
    code = (
        f"{IMPORT}; core = backend._import_cupy()._core; "
        "assert core.get_reduction_accelerators() == core.get_routine_accelerators() == []"
    )
    _probe_in_a_process(code, CUPY_ACCELERATORS=wanted)


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_products_keep_their_digits_whatever_the_environment_says(wanted: str) -> None:
    pytest.importorskip("cupy", exc_type=ImportError)
    code = (
        f"{IMPORT}; import ctypes; core = backend._import_cupy()._core; "
        "assert core.get_compute_type('f') == core._routines_linalg.COMPUTE_TYPE_DEFAULT; "
        "getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p; "
        "assert getenv(b'NVIDIA_TF32_OVERRIDE') == b'0'"  # as cuBLAS looks for it
    )
    _probe_in_a_process(code, CUPY_TF32=wanted, NVIDIA_TF32_OVERRIDE=wanted)


@gpu
def test_as_much_is_pinned_as_memory_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    sizes: list[int] = []

    def counted(cupy: Any, size: int) -> Staging:
        sizes.append(size)
        return Staging(cupy, size)

    monkeypatch.setattr("lossd.backends._slots.Staging", counted)
    backend.CupyBackend().close()

    planned = available.count * backend.PINNED_BYTES
    assert planned <= sum(sizes) < 1.01 * planned


def test_a_backend_without_a_device_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "probe", lambda: backend.Availability("it is unplugged", None))
    with pytest.raises(BackendUnavailable, match="it is unplugged"):
        backend.CupyBackend()


# What a start takes of the memory of a device, and of what is pinned of the host's.
TAKES = {
    "its context": "cudaStreamCreate",
    "pinned memory": "cudaHostAlloc",
    "events": "cudaEventCreate",
}


# A stream of CuPy's that was never made complains when it goes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("call", TAKES.values(), ids=TAKES)
@gpu
def test_a_full_device_is_not_used(fake: Any, call: str) -> None:
    fake.fault(call)
    with pytest.raises(BackendUnavailable, match="must be usable, got cupy: cudaErrorMemoryAlloc"):
        choose(BackendChoice.CUPY, threads=1)

    fake.fault(call)
    chosen = choose(BackendChoice.AUTO, threads=1)
    with closing(chosen.backend):
        assert (chosen.backend.name, chosen.is_fallback) == ("numpy", True)
        assert "no usable GPU" in chosen.reason
        assert "out of memory" in chosen.reason

    backend.CupyBackend().close()  # nothing of that is left


@gpu
def test_a_device_that_is_full_when_its_copies_are_measured_is_not_used(fake: Any) -> None:
    del fake  # skips without it
    chosen = choose(BackendChoice.AUTO, threads=1)
    assert chosen.backend.name == "cupy"
    with own_pool(backend._import_cupy()) as pool:
        pool.set_limit(size=1)
        checked = check_device(chosen, Config(check_device=False), NETWORKS)

    with closing(checked.engine.backend) as used:
        assert (used.name, checked.chosen.is_fallback) == ("numpy", True)
        assert "no usable GPU" in checked.chosen.reason


def test_a_user_without_a_home_still_gets_a_folder_for_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("CUPY_CACHE_DIR", "")
    backend._ensure_cache_folder()

    folder = Path(os.environ["CUPY_CACHE_DIR"])
    assert folder.is_dir()
    folder.rmdir()


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        # An H200, a consumer's Ampere, and what tells nothing.
        ((233472, 2048, 232448), 57344),
        ((102400, 1536, 101376), 48 << 10),
        ((233472, 1024, 232448), 115712),
        ((0, 512, 0), 48 << 10),
    ],
)
def test_as_many_blocks_fit_together_as_there_are_threads_for(
    attributes: tuple[int, int, int], kept: int
) -> None:
    names = (
        "MaxSharedMemoryPerMultiprocessor",
        "MaxThreadsPerMultiProcessor",
        "MaxSharedMemoryPerBlockOptin",
    )
    device = SimpleNamespace(attributes=dict(zip(names, attributes, strict=True)))
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: device))
    assert _compiled._shared_bytes(cupy) == kept
