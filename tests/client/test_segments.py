"""Blocks of shared files: where they lie, and when they come back."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client.beacon import is_seen
from lossd.client.reply_room import reply_size, wanted_gradients
from lossd.client.segments import ALIGNMENT, Arena, Segment

MEBIBYTE = 1 << 20
FLOAT = np.dtype(np.float32)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment(tmp_path, MEBIBYTE)


def test_blocks_are_aligned_and_apart(segment: Segment) -> None:
    blocks = [segment.take(size) for size in (1, 100, 64)]
    bounds = [(b.start, b.start + b.size) for b in blocks if b is not None]
    assert bounds == [(0, 64), (64, 192), (192, 256)]
    assert all(start % ALIGNMENT == 0 for start, _ in bounds)


def test_a_block_comes_back_when_the_last_view_of_it_is_gone(segment: Segment) -> None:
    block = segment.take(MEBIBYTE)
    assert block is not None
    view = block.array((1024, 256), FLOAT)[3:5, ::2].T
    del block
    gc.collect()
    assert segment.take(64) is None
    assert not segment.is_free()
    del view
    assert segment.is_free()


def test_what_came_back_in_any_order_is_whole_again(segment: Segment) -> None:
    blocks: list[Any] = [segment.take(MEBIBYTE // 4) for _ in range(4)]
    assert segment.take(1) is None
    for position in (2, 0, 3, 1):
        blocks[position] = None
    assert segment.take(MEBIBYTE) is not None


def test_a_file_is_private_sized_and_unlinked_once(tmp_path: Path) -> None:
    segment = Segment(tmp_path, MEBIBYTE + 1)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == segment.size == 2 * MEBIBYTE
    assert path.stat().st_blocks * 512 >= segment.size  # there is room for all of it
    segment.unlink()
    segment.unlink()
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File too large|No space"):
        Segment(tmp_path, 1 << 62)
    assert not list(tmp_path.iterdir())


def test_an_array_is_found_where_it_lies(segment: Segment) -> None:
    arena = Arena()
    arena.add(segment)
    block = arena.take(4096)
    assert block is not None
    array = block.array((1024,), FLOAT)
    assert arena.locate(array[10:]) == (segment, block.start + 40)
    assert arena.locate(np.zeros(10)) is None
    arena.retire(segment)
    assert arena.locate(array) is None
    array[:] = 1  # it stays memory


def test_only_what_nothing_is_in_is_let_go(tmp_path: Path) -> None:
    arena = Arena()
    used, unused = Segment(tmp_path, 1), Segment(tmp_path, 1)
    block = used.take(1)
    arena.add(used)
    arena.add(unused)
    assert arena.remove_unused() == [unused]
    del block
    assert arena.remove_unused() == [used]
    assert arena.remove_unused() == []


def test_nothing_is_put_into_what_is_retired(tmp_path: Path) -> None:
    arena, segment = Arena(), Segment(tmp_path, 1)
    arena.add(segment)
    block = arena.take(1)
    for _ in range(2):  # two calls whose replies lay in it may be given up
        arena.retire(segment)
    assert arena.take(1) is None
    del block
    assert arena.remove_unused() == [segment]
    assert arena.remove_all() == []


def test_what_is_retired_is_let_go_once_nothing_is_in_it(tmp_path: Path) -> None:
    """Until then another call may have its inputs there, which the server has to find."""
    arena, segment = Arena(), Segment(tmp_path, 1)
    arena.add(segment)
    block = arena.take(1)
    arena.retire(segment)
    assert arena.remove_unused() == []
    del block
    assert arena.remove_unused() == [segment]


def test_closing_lets_go_of_what_is_retired_and_in_use(tmp_path: Path) -> None:
    arena, segment = Arena(), Segment(tmp_path, 1)
    arena.add(segment)
    block = arena.take(1)
    arena.retire(segment)
    assert arena.remove_all() == [segment]
    assert arena.remove_all() == []
    del block


def request(loss: v1.LossSpec, **arrays: Any) -> v1.ComputeLossRequest:
    made = v1.ComputeLossRequest(loss=loss, per_example=True)
    for name, array in arrays.items():
        tensors.fill(made.inputs.add(name=name).tensors.add(), array)
    return made


def size(made: v1.ComputeLossRequest, by_default: set[str]) -> int:
    """The bytes of a reply whose losses return gradients with respect to these inputs."""
    return reply_size(made, wanted_gradients(made, lambda _: by_default))


def test_the_region_of_the_reply_fits_gradients_and_examples() -> None:
    floats, labels = np.zeros((40, 30), np.float32), np.zeros(40, np.int64)
    of_classes = request(
        v1.LossSpec(cross_entropy=v1.CrossEntropy()), predictions=floats, targets=labels
    )
    assert size(of_classes, {"predictions"}) == 4800 + 320
    of_classes.gradients.SetInParent()
    assert size(of_classes, {"predictions"}) == 320
    pairs = request(v1.LossSpec(huber=v1.Huber(batch_dims=2)), predictions=floats, targets=floats)
    assert size(pairs, {"predictions", "targets"}) == 2 * 4800 + 9600
    terms = [v1.WeightedTerm(loss=pairs.loss, input_names={"targets": "predictions"})]
    total = v1.LossSpec(weighted_sum=v1.WeightedSum(terms=terms))
    assert size(request(total, predictions=floats), {"targets"}) == 4800 + 320


@pytest.mark.parametrize(
    ("name", "content"), [("../beacon", b"x"), ("link", b"x"), ("beacon", b"y"), ("none", b"x")]
)
def test_a_beacon_is_a_plain_file_with_its_content(
    tmp_path: Path, name: str, content: bytes
) -> None:
    shm = tmp_path / "shm"
    shm.mkdir()
    for place in (tmp_path, shm):
        (place / "beacon").write_bytes(b"x")
    (shm / "link").symlink_to("beacon")
    right = v1.SharedMemoryOffer(directory=str(shm), beacon="beacon", beacon_content=b"x")
    assert is_seen(right)
    wrong = v1.SharedMemoryOffer(directory=str(shm), beacon=name, beacon_content=content)
    assert not is_seen(wrong)
