"""Memory of a device that another process uses too, on gpulab's fake device."""

import gc
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.backends import Exported, Resident, _tasks
from lossd.backends import cupy as backend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import BackendUnavailable, DeviceFull
from lossd.losses import LOSSES, Loss
from lossd.losses._maths.overlap import EmptyTarget
from lossd.reduction import NonfinitePolicy
from lossd.serving.loss_service.norms import euclidean_norm
from lossd.shapes import _blocks
from tests.device import own_pool
from tests.drawn_networks import NETWORKS
from tests.sampling import cases

pytestmark = pytest.mark.gpu

ROWS, COLUMNS = 700, 100
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.fixture(scope="module")
def made() -> Iterator[backend.CupyBackend]:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    found = backend.CupyBackend()
    yield found
    found.close()


def allocated(made: backend.CupyBackend, size: int = 1 << 20) -> Exported:
    return made.exports.allocate(size, next(iter(made.exports.uuids)))


def resident(made: backend.CupyBackend, exported: Exported, array: Any, start: int = 0) -> Any:
    """A copy of an array in exported memory."""
    found = exported.array()[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made.exports.put(array, found)
    return found


def cross_entropy(predictions: Any, **options: Any) -> Job:
    targets = np.random.default_rng(1).integers(0, COLUMNS, ROWS)
    return Job(
        loss=LOSSES["cross_entropy"],
        parameters={},
        inputs={"predictions": [predictions], "targets": [targets]},
        per_example=True,
        **options,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_on_the_device_is_not_copied_and_has_the_same_bits(
    fake: Any, made: backend.CupyBackend, dtype: Any
) -> None:
    engine = Engine(made)
    given = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(dtype)
    expected = engine.run(cross_entropy(given))
    exported = allocated(made)
    job = cross_entropy(resident(made, exported, given))
    assert engine.resident(job) == {"predictions"}
    place = exported.array()[given.nbytes : 2 * given.nbytes].view(dtype).reshape(given.shape)
    with fake.recorded():
        found = engine.run(job, place=lambda *_: place)
        moved = [copy.bytes for copy in fake.copies()]
    assert max(moved) < given.nbytes / 8  # labels, values and flags
    assert found.loss == expected.loss
    gradient = made.exports.fetch(found.gradients["predictions"])
    assert gradient.tobytes() == expected.gradients["predictions"].tobytes()
    assert made.exports.norm(place) == pytest.approx(
        np.linalg.norm(gradient.astype(np.float64)), rel=1e-12
    )
    assert not fake.violations()


# More than a block of numbers, and a tail.
NORMED = (1 << 16) + 1003
GRADIENTS: dict[str, Any] = {
    "drawn": np.random.default_rng(0).normal(size=NORMED),
    "few": np.array([3.0, 4.0]),
    "of whole blocks": np.ones(1 << 16),
    "beyond a square": np.full(NORMED, 1e300),
    "below a square": np.full(NORMED, 1e-300),
    "far apart": np.geomspace(1e-308, 1e300, NORMED),
    "nothing": np.zeros(NORMED),
    "infinite": np.concatenate([np.ones(NORMED), [-np.inf]]),
    "no number": np.concatenate([[np.nan], np.ones(NORMED)]),
}


@pytest.mark.parametrize("kind", GRADIENTS)
def test_a_norm_on_the_device_is_that_of_the_host(made: backend.CupyBackend, kind: str) -> None:
    given = GRADIENTS[kind]
    found = made.exports.norm(resident(made, allocated(made, given.nbytes), given))
    assert found == pytest.approx(euclidean_norm([given]), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_norm_takes_no_memory_of_the_device_to_speak_of(
    made: backend.CupyBackend, dtype: Any
) -> None:
    given = np.random.default_rng(0).normal(size=(1000, 1003)).astype(dtype)
    array = resident(made, allocated(made, given.nbytes), given)
    with own_pool(made.xp) as pool:
        found = made.exports.norm(array)
        assert pool.total_bytes() < given.nbytes / 50
    assert found == pytest.approx(np.linalg.norm(given.astype(np.float64)), rel=1e-12)


def test_what_is_on_the_device_is_shown_without_its_numbers(made: backend.CupyBackend) -> None:
    found = resident(made, allocated(made), np.zeros((2, 3), np.float32))
    for shown in (repr(found), str(found), f"{found}"):
        assert shown == "<float32 of (2, 3) on a device>"
    assert repr(cross_entropy(found)).count("<float32 of (2, 3) on a device>") == 1


def test_what_is_on_the_device_is_not_cut_into_tiles(
    fake: Any, made: backend.CupyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks, "TILE_BYTES", 100 * (4 * COLUMNS + 18))
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 10 * COLUMNS)
    engine = Engine(made)
    given = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    exported = allocated(made)
    of_host, of_device = cross_entropy(given), cross_entropy(resident(made, exported, given))
    place = exported.array()[given.nbytes : 2 * given.nbytes].view(given.dtype).reshape(given.shape)

    def launches(job: Job, **options: Any) -> int:
        with fake.recorded() as lines:
            engine.run(job, **options)
        return [line.split()[0] for line in lines].count("launch")

    assert launches(of_host) == 7
    assert launches(of_device, place=lambda *_: place) == 1
    monkeypatch.setattr(_tasks, "RESIDENT_TILE_BYTES", 360 * 4 * COLUMNS)
    assert launches(of_device, place=lambda *_: place) == 2


@pytest.mark.parametrize("wanted", ["outputs", "gradients"])
def test_what_a_body_computes_beside_a_kernel_is_cut_into_tiles(
    made: backend.CupyBackend, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """Each of its steps takes memory of the device, wherever its inputs lie."""
    monkeypatch.setattr(_tasks, "TILE_BYTES", 1 << 16)
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 10 * COLUMNS)
    given = shares(20 * ROWS, COLUMNS)
    memory = {name: allocated(made, given.nbytes) for name in ("predictions", "targets")}
    lying = {name: [resident(made, exported, given)] for name, exported in memory.items()}
    job = Job(loss=LOSSES["kl_divergence"], parameters={}, inputs=lying, gradients=tuple(lying))
    if wanted == "outputs":
        labels = np.zeros(len(given), np.int64)
        job = Job(
            loss=LOSSES["cross_entropy"],
            parameters={"outputs": outputs_of(LOSSES["cross_entropy"])},
            inputs={"predictions": lying["predictions"], "targets": [labels]},
        )
    places = {name: allocated(made, given.nbytes) for name in lying}

    def place(name: str, *_: Any) -> Any:
        return places[name].array()[: given.nbytes].view(given.dtype).reshape(given.shape)

    with own_pool(made.xp) as pool:
        Engine(made).run(job, place=place)
        assert pool.total_bytes() < given.nbytes / 4


def outputs_of(loss: Loss) -> tuple[Any, ...]:
    """All that can be asked for beside its value."""
    choices = next(p.choices for p in loss.parameters if p.name == "outputs")
    return tuple(choices or ())


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shares(*shape: int) -> Any:
    return np.random.default_rng(1).random(shape, np.float32)


# By the loss: its parameters, its inputs, and those that nothing but the device looks at.
OF_EVERY_SHAPE: dict[str, tuple[str, dict[str, Any], dict[str, Any], set[str]]] = {
    "vectors": (
        "triplet",
        {},
        {n: drawn(300, 64, seed=i) for i, n in enumerate(("anchor", "positive", "negative"))},
        {"anchor", "positive", "negative"},
    ),
    "vectors with numbers": (
        "cosine_embedding",
        {},
        {
            "left": drawn(300, 64),
            "right": drawn(300, 64, seed=1),
            "targets": np.where(drawn(300) > 0, 1, -1).astype(np.float32),
        },
        {"left", "right", "targets"},
    ),
    "regions": (
        "dice",
        {},
        {"predictions": drawn(40, 500), "targets": shares(40, 500)},
        {"predictions", "targets"},
    ),
    "regions of classes": (
        "jaccard",
        {"class_axis": 1},
        {"predictions": drawn(8, 30, 60), "targets": np.arange(480).reshape(8, 60) % 30},
        {"predictions"},
    ),
    "a norm": ("gradient_penalty", {}, {"input_gradients": drawn(40, 500)}, {"input_gradients"}),
    "sequences": (
        "ctc",
        {},
        {"predictions": drawn(6, 20, 150), "targets": 1 + np.arange(30).reshape(6, 5) % 29},
        {"predictions"},
    ),
}


@pytest.mark.parametrize("shape", OF_EVERY_SHAPE)
def test_losses_of_every_shape_are_computed_where_their_inputs_are(
    fake: Any, made: backend.CupyBackend, shape: str
) -> None:
    name, parameters, given, expected_to_stay = OF_EVERY_SHAPE[shape]
    engine = Engine(made)

    def job(inputs: dict[str, Any]) -> Job:
        listed = {name: [array] for name, array in inputs.items()}
        return Job(loss=LOSSES[name], parameters=parameters, inputs=listed, per_example=True)

    expected = engine.run(job(given))
    sizes = {name: given[name].nbytes for name in expected_to_stay}
    memory = {name: allocated(made) for name in sizes}
    moved = {name: resident(made, exported, given[name]) for name, exported in memory.items()}
    lying = job({**given, **moved})
    assert engine.resident(lying) == expected_to_stay

    def place(input_name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        if input_name not in memory:
            return None
        start, size = 1 << 19, int(np.prod(shape)) * np.dtype(dtype).itemsize
        return memory[input_name].array()[start : start + size].view(dtype).reshape(shape)

    with fake.recorded():
        found = engine.run(lying, place=place)
        copied = [copy.bytes for copy in fake.copies()]
    assert max(copied) < given[next(iter(given))].nbytes / 8  # labels, values and flags
    assert found.loss == expected.loss
    for input_name, gradient in expected.gradients.items():
        fetched = made.exports.fetch(found.gradients[input_name])
        assert isinstance(found.gradients[input_name], Resident)
        assert fetched.tobytes() == gradient.tobytes()
    assert not fake.violations()


def test_regions_whose_empty_targets_are_skipped_are_looked_at(made: backend.CupyBackend) -> None:
    array = shares(40, 500)
    inputs = {"predictions": [array], "targets": [array]}
    parameters = {"empty_target": EmptyTarget.SKIP}
    skipping = Job(loss=LOSSES["dice"], parameters=parameters, inputs=inputs)
    assert not Engine(made).resident(skipping)


def test_who_reads_numbers_on_the_host_is_told(made: backend.CupyBackend) -> None:
    array = allocated(made).array()
    assert isinstance(array[3:7].reshape(2, 2), Resident)
    for reading in (lambda: array + 1, lambda: np.isfinite(array), array.max):
        with pytest.raises(TypeError, match="must be on the host"):
            reading()


def test_what_looks_at_numbers_keeps_none_on_the_device(made: backend.CupyBackend) -> None:
    engine = Engine(made)
    array = np.zeros((ROWS, COLUMNS), np.float32)
    assert not engine.resident(cross_entropy(array, nonfinite=NonfinitePolicy.ZERO))
    assert not engine.resident(_moved(array))
    pairs = Job(
        loss=LOSSES["info_nce"], parameters={}, inputs={"queries": [array], "keys": [array]}
    )
    assert not engine.resident(pairs)


def _moved(array: Any) -> Job:
    targets = np.zeros(COLUMNS, np.int64)
    inputs = {"predictions": [array], "targets": [targets]}
    return Job(loss=LOSSES["cross_entropy"], parameters={"class_axis": 0}, inputs=inputs)


@pytest.mark.parametrize("loss", [*LOSSES.values()], ids=lambda loss: loss.name)
def test_what_may_stay_on_the_device_is_looked_at_by_nobody_else(
    made: backend.CupyBackend, loss: Loss
) -> None:
    """With every choice and flag of the loss, such as the kinds of its predictions."""
    engine = Engine(made, NETWORKS)
    for case in cases(loss, rows=3):
        expected = engine.run(case.job(per_example=True))
        staying = [name for name in engine.resident(case.job()) if name in case.inputs]
        memory = [allocated(made) for _ in staying]
        moved = {
            n: resident(made, at, case.inputs[n]) for n, at in zip(staying, memory, strict=True)
        }
        found = engine.run(case.with_inputs(**moved).job(per_example=True))
        assert found.loss == expected.loss, case


def test_a_device_is_full_whoever_says_so(fake: Any, made: backend.CupyBackend) -> None:
    """Loading a kernel and launching it take memory beside CuPy's pool, and so may an event."""
    engine = Engine(made)
    job = cross_entropy(drawn(ROWS, COLUMNS))
    expected = engine.run(job)
    for call in ("cuModuleLoadData", "cuLaunchKernel", "cudaMemcpyAsync", "cudaEventRecord"):
        for worker in made._workers:
            worker.kernels.clear()
        fake.fault(call, nth=1, error=2)
        assert engine.run(job).loss == expected.loss  # in halves
        fake.reset()
    assert engine.run(job).loss == expected.loss


def test_memory_is_freed_with_the_last_array(fake: Any, made: backend.CupyBackend) -> None:
    gc.collect()
    before = fake.used(device=0)
    array = allocated(made).array()[:10]
    assert fake.used(device=0) == before + (2 << 20)
    del array
    gc.collect()
    assert fake.used(device=0) == before


def test_a_full_device_says_so(fake: Any, made: backend.CupyBackend) -> None:
    del fake
    with pytest.raises(DeviceFull, match="bytes that are free"):
        allocated(made, 1 << 40)


@pytest.mark.parametrize("call", ["cudaIpcGetMemHandle", "cudaIpcGetEventHandle"])
def test_a_device_that_cannot_export_is_found_at_the_start(
    fake: Any, made: backend.CupyBackend, call: str
) -> None:
    fake.fault(call, nth=1, error=801)
    with pytest.raises(BackendUnavailable, match="must be shareable"):
        made.exports.check()
    made.exports.check()


def test_memory_that_others_have_a_part_of_is_not_handed_out(
    fake: Any, made: backend.CupyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle of a part of an allocation opens all of it."""
    del fake
    monkeypatch.setattr(
        "lossd.backends._exports._range_of", lambda address: (address - 4096, 8 << 20)
    )
    with pytest.raises(BackendUnavailable, match="must hold one client's memory"):
        made.exports.check()
