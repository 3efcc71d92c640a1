"""How tiles go to a device and back, from the fake device's log of calls."""

import os
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends import _rooms, _tasks, _tiles, _worker
from lossd.backends import cupy as backend
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import DeviceFull
from lossd.kernels import _launch
from lossd.kernels._launch import launch_sequences
from lossd.losses import LOSSES
from lossd.reduction import Reduction
from lossd.shapes import _blocks, sequence
from tests.device import own_pool

pytestmark = pytest.mark.gpu

ROWS, COLUMNS = 700, 100


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    made = Engine(backend.CupyBackend())
    yield made
    made.close()


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of about 100 rows, as if a row had a thousand times the columns."""
    monkeypatch.setattr(_tasks, "TILE_BYTES", 100 * (4 * COLUMNS + 18))
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 10 * COLUMNS)


def cross_entropy(dtype: npt.DTypeLike = np.float32, **options: Any) -> Job:
    rng = np.random.default_rng(0)
    return Job(
        loss=LOSSES["cross_entropy"],
        parameters={"class_weights": list(np.linspace(0.5, 2, COLUMNS))},
        inputs={
            "predictions": [rng.normal(size=(ROWS, COLUMNS)).astype(dtype)],
            "targets": [rng.integers(0, COLUMNS, ROWS)],
        },
        per_example=True,
        **options,
    )


def bits(result: Result) -> list[bytes]:
    assert result.per_example is not None
    return [result.per_example.tobytes(), *(g.tobytes() for g in result.gradients.values())]


@pytest.mark.parametrize("dense", [False, True], ids=["labels", "shares"])
def test_regions_of_classes_take_one_launch(fake: Any, engine: Engine, *, dense: bool) -> None:
    rng = np.random.default_rng(0)
    shape = (4, 5, 6, 7)
    targets: Any = rng.random(shape, np.float32) if dense else rng.integers(0, 5, (4, 6, 7))
    inputs: dict[str, Any] = {"predictions": [rng.random(shape, np.float32)], "targets": [targets]}
    job = Job(loss=LOSSES["dice"], parameters={"class_axis": 1}, inputs=inputs)
    engine.run(job)
    with fake.recorded() as lines:
        engine.run(job)
    assert [line.split()[0] for line in lines].count("launch") == 1


def test_long_regions_of_classes_take_a_block_for_each_segment(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shape = (4, 5, 20, 10)
    inputs: dict[str, Any] = {
        "predictions": [rng.random(shape, np.float32)],
        "targets": [rng.integers(0, 5, (4, 20, 10))],
    }
    job = Job(loss=LOSSES["dice"], parameters={"class_axis": 1}, inputs=inputs)
    whole = engine.run(job)
    monkeypatch.setattr(_launch, "SEGMENT", 64)
    monkeypatch.setattr(_rooms, "ROOM_BYTES", 1)  # what is kept of a row stays between launches
    with fake.recorded() as lines:
        found = engine.run(job)
    assert grids(lines) == [16, 4, 16]
    assert found.loss == pytest.approx(whole.loss, 1e-6)
    for name, gradient in whole.gradients.items():
        np.testing.assert_allclose(found.gradients[name], gradient, 1e-5, 1e-9)
    assert not fake.violations()


@pytest.mark.parametrize("name", ["huber", "binary_cross_entropy"])
def test_long_rows_of_single_numbers_take_a_block_for_each_segment(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job = single_numbers(name, rows=6, columns=640)
    whole = engine.run(job)
    monkeypatch.setattr(_launch, "SEGMENT", 256)
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", 640)
    found = engine.run(job)
    with fake.recorded() as lines:
        assert bits(engine.run(job)) == bits(found)
    assert grids(lines) == [18, 1]
    assert not any("alloc" in line.lower() for line in lines)
    monkeypatch.setattr(_tasks, "TILE_BYTES", 1)
    with fake.recorded() as lines:
        assert bits(engine.run(job)) == bits(found)
    assert grids(lines) == 6 * [3, 1]
    assert found.loss == pytest.approx(whole.loss, 1e-6)
    for gradient, right in zip(found.gradients.values(), whole.gradients.values(), strict=True):
        assert gradient.tobytes() == right.tobytes()
    assert not fake.violations()


def test_a_million_single_numbers_keep_a_device_busy(fake: Any, engine: Engine) -> None:
    job = single_numbers("squared_error", rows=2, columns=1_000_003)
    with fake.recorded() as lines:
        found = engine.run(job)
    assert grids(lines) == [2 * 62, 2]
    right = Engine(NumpyBackend(1)).run(job)
    assert found.loss == pytest.approx(right.loss, 1e-6)
    for name, gradient in right.gradients.items():
        np.testing.assert_allclose(found.gradients[name], gradient, 1e-6)


def single_numbers(name: str, rows: int, columns: int) -> Job:
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=(rows, columns)).astype(np.float32)
    targets = rng.random((rows, columns), np.float32)
    inputs: dict[str, Any] = {"predictions": [predictions], "targets": [targets]}
    return Job(loss=LOSSES[name], parameters={}, inputs=inputs, per_example=True)


def test_what_long_regions_work_in_counts_in_their_tile(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows, positions = 12, 640
    shares = rng.random((rows, 1, positions), np.float32)
    job = Job(
        loss=LOSSES["dice"],
        parameters={"class_axis": 1},
        inputs={"predictions": [shares], "targets": [shares.round()]},
        per_example=True,
    )
    monkeypatch.setattr(_launch, "SEGMENT", 64)
    monkeypatch.setattr(_blocks, "BLOCK_ELEMENTS", positions)
    whole = bits(engine.run(job))
    # Three numbers of float64 a position, and little beside.
    monkeypatch.setattr(_tasks, "RESIDENT_TILE_BYTES", 5 * (24 * positions + 400))
    with fake.recorded() as lines:
        assert bits(engine.run(job)) == whole
    assert grids(lines) == [50, 5, 50, 50, 5, 50, 20, 2, 20]


def ctc(rows: int) -> Job:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(rows, 12, 5)).astype(np.float32)
    labels = rng.integers(1, 5, (rows, 3))
    inputs: dict[str, Any] = {"predictions": [frames], "targets": [labels]}
    return Job(loss=LOSSES["ctc"], parameters={}, inputs=inputs, per_example=True)


def grids(lines: list[str]) -> list[int]:
    """The blocks of each launch."""
    launches = [line for line in lines if line.startswith("launch")]
    return [int(line.split(" grid ")[1].split(",")[0]) for line in launches]


def test_a_tile_has_as_many_sequences_as_the_device_works_on_at_once(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of them is computed for longer than it takes to get there."""
    multiprocessors = backend._import_cupy().cuda.Device().attributes["MultiProcessorCount"]
    monkeypatch.setattr(sequence, "SEQUENCE_BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(_tasks, "TILE_BYTES", 1000)
    job = ctc(2 * multiprocessors)
    with fake.recorded() as lines:
        result = engine.run(job)
    assert grids(lines) == [multiprocessors, multiprocessors]

    monkeypatch.setattr(_tasks, "BUSY_TILE_BYTES", 20_000)
    with fake.recorded() as lines:
        assert bits(engine.run(job)) == bits(result)
    assert len(grids(lines)) == 4


def test_blocks_have_room_as_long_as_memory_is_free(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ctc(60)
    room = launch_sequences("", 1, frames=12, classes=5, labels=3).room_bytes

    def launched(room_bytes: int) -> list[int]:
        monkeypatch.setattr(_rooms, "ROOM_BYTES", room_bytes)
        with fake.recorded() as lines:
            assert bits(engine.run(job)) == whole
        return grids(lines)

    whole = bits(engine.run(job))
    assert launched(20 * room) == [60]  # of what is free they take less than their part
    monkeypatch.setattr(_rooms, "PART", 1 << 62)
    assert launched(20 * room) == [20]
    assert launched(1) == [1]  # one block is always given what it needs


def test_no_more_blocks_have_room_than_work_at_once(
    fake: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ctc(60)
    whole = bits(engine.run(job))
    monkeypatch.setattr(_rooms, "multiprocessors", lambda _: 1)
    occupancy = "cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor"
    monkeypatch.setattr(occupancy, lambda *_: 7)
    with fake.recorded() as lines:
        assert bits(engine.run(job)) == whole
    assert grids(lines) == [7]


@pytest.mark.usefixtures("small_tiles")
def test_the_next_tile_is_sent_before_the_last_is_waited_for(fake: Any, engine: Engine) -> None:
    job = cross_entropy()
    engine.run(job)
    with fake.recorded() as lines:
        engine.run(job)
        up = [c for c in fake.copies("H2D") if c.bytes > 4 * COLUMNS * 50]
        down = [c for c in fake.copies("D2H") if c.bytes > 4 * COLUMNS * 50]
        pinned = [c.pinned for c in fake.copies() if c.bytes != 4 * COLUMNS]
    tiles = len(up)
    assert tiles == len(down) == 7
    assert all(pinned)
    for one, following in zip(down, up[1:], strict=False):
        assert following.number < one.done_by
    assert {c.stream for c in up}.isdisjoint(c.stream for c in down)
    calls = Counter(line.split()[0] for line in lines)
    assert calls["launch"] == calls["eventSynchronize"] == tiles
    assert not {name for name in calls if "alloc" in name.lower() or "free" in name.lower()}
    assert not fake.violations()


@pytest.mark.usefixtures("small_tiles")
def test_parameters_are_sent_once_a_request(fake: Any, engine: Engine) -> None:
    job = cross_entropy()
    engine.run(job)
    with fake.recorded():
        engine.run(job)
        sizes = Counter(copy.bytes for copy in fake.copies("H2D"))
    assert sizes[4 * COLUMNS] == 1


@pytest.mark.usefixtures("small_tiles")
def test_what_is_sent_is_held_until_the_tile_is_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy may read the memory of the host after the call that began it has returned."""
    sent: list[weakref.ref[Any]] = []
    sizes: list[int] = []
    send, finish = _tiles.send, _worker.Begun.finish

    def noted(cupy: Any, stream: Any, source: Any) -> Any:
        sent.append(weakref.ref(source))
        sizes.append(source.nbytes)
        return send(cupy, stream, source)

    def looking(begun: _worker.Begun) -> Any:
        assert all(source() is not None for source in sent)
        sent.clear()
        return finish(begun)

    for module in (_tiles, _worker):
        monkeypatch.setattr(module, "send", noted)
    monkeypatch.setattr(_worker.Begun, "finish", looking)
    logits = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    job = Job(
        loss=LOSSES["binary_cross_entropy"],
        parameters={"positive_weights": [2.0]},  # one number for every column
        inputs={"predictions": [logits], "targets": [np.zeros_like(logits)]},
    )
    engine.run(job)
    assert 4 * COLUMNS in sizes


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.NONE])
def test_bits_do_not_depend_on_who_else_computes(engine: Engine, reduction: Reduction) -> None:
    rng = np.random.default_rng(1)
    job = cross_entropy(
        reduction=reduction,
        weights=rng.uniform(0, 2, ROWS),
        mask=rng.random(ROWS) < 0.9,
        cotangent=rng.normal(size=ROWS) if reduction is Reduction.NONE else None,
    )
    alone = bits(engine.run(job))
    # More calls than slots, so that some wait for each other.
    with ThreadPoolExecutor(2 * _worker.SLOTS) as pool:
        together = list(pool.map(engine.run, [job] * 4 * _worker.SLOTS))
    assert all(bits(result) == alone for result in together)


@pytest.mark.usefixtures("small_tiles")
def test_a_call_that_is_stopped_leaves_nothing_behind(fake: Any, engine: Engine) -> None:
    job = cross_entropy()
    whole = bits(engine.run(job))
    for last in range(6):
        left = iter(range(last))

        def stop(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            engine.run(job, checkpoint=stop)
    assert bits(engine.run(job)) == whole
    assert not fake.violations()


@pytest.mark.usefixtures("small_tiles")
def test_a_fault_of_a_call_that_is_stopped_takes_no_slot(fake: Any, engine: Engine) -> None:
    def stop() -> None:
        if next(left, None) is None:
            fake.fault("cudaEventSynchronize", error=fake.LAUNCH_OUT_OF_RESOURCES)
            raise TimeoutError

    job = cross_entropy()
    whole = bits(engine.run(job))
    for _ in range(_worker.SLOTS + 1):
        left = iter(range(3))
        with pytest.raises(TimeoutError):
            engine.run(job, checkpoint=stop)
    assert bits(engine.run(job)) == whole


def test_all_streams_are_waited_for_whatever_one_says(fake: Any, engine: Engine) -> None:
    job = cross_entropy()
    engine.run(job)
    with fake.recorded() as lines:
        fake.fault("cudaEventRecord", error=fake.LAUNCH_OUT_OF_RESOURCES)
        fake.fault("cudaStreamSynchronize", error=fake.LAUNCH_OUT_OF_RESOURCES)
        with pytest.raises(Exception, match="LaunchOutOfResources"):
            engine.run(job)
    assert [line.split()[0] for line in lines].count("streamSynchronize") == 2


def test_memory_that_is_pinned_is_copied_where_it_lies(fake: Any, engine: Engine) -> None:
    """A row beyond a slot shows it: there is no other pinned memory that it would fit into."""
    columns = (_worker.TILE_BYTES + _worker.SPARE_BYTES) // 4 + 1000
    memory = np.zeros(8 * columns, np.uint8)
    given = memory[: 4 * columns].view(np.float32).reshape(1, columns)
    reply = memory[4 * columns :].view(np.float32).reshape(1, columns)
    job = Job(
        loss=LOSSES["cross_entropy"],
        parameters={},
        inputs={"predictions": [given], "targets": [np.array([3])]},
    )

    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        return reply if shape == reply.shape else np.empty(shape, dtype)

    def large() -> list[bool]:
        with fake.recorded():
            engine.run(job, allocate=allocate)
            return [copy.pinned for copy in fake.copies() if copy.bytes == 4 * columns]

    assert large() == [False, False]
    unpin = engine.backend.pin(memory)
    assert large() == [True, True]
    unpin()
    assert large() == [False, False]
    assert not fake.violations()


def test_memory_that_cannot_be_pinned_is_copied_all_the_same(fake: Any, engine: Engine) -> None:
    fake.fault("cudaHostRegister", error=2)
    memory = np.zeros(8192, np.uint8)
    engine.backend.pin(memory)()
    engine.backend.pin(memory)()
    assert not fake.violations()


@pytest.mark.usefixtures("small_tiles")
def test_a_tile_that_does_not_fit_is_halved(engine: Engine) -> None:
    job = cross_entropy(weights=np.linspace(0, 2, ROWS))
    whole = bits(engine.run(job))
    with own_pool(backend._import_cupy()) as pool:
        pool.set_limit(size=60_000)  # a tile takes 80,000
        assert bits(engine.run(job)) == whole
        pool.free_all_blocks()
        pool.set_limit(size=1)
        with pytest.raises(DeviceFull, match="must fit into the device's memory"):
            engine.run(job)
    assert bits(engine.run(job)) == whole


@pytest.mark.parametrize("scenario", ["tiles of one call", "whole batches"])
def test_two_devices_serve_calls_at_the_same_time(fake: Any, scenario: str) -> None:
    del fake  # skips without it
    on_two_devices(scenario)


def test_memory_is_given_back_by_the_device_that_is_full(fake: Any) -> None:
    del fake
    on_two_devices("a full device")


def on_two_devices(scenario: str) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("two_devices.py")), scenario],
        env={**os.environ, "GPULAB_DEVICES": "2"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
