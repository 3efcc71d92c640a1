"""A directory that is removed or replaced under a server is noticed, and the new one is used."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd.client.segments import Segment
from lossd.serving.shared_memory_service import client_files, segments
from lossd.serving.shared_memory_service.directory import OURS
from lossd.serving.shared_memory_service.segments import SharedMemory

SIZE = 1 << 12

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="memory is shared on Linux only"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shm"


@pytest.fixture
def shared(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMemory]:
    """Memory that is looked after only when a test says so."""
    monkeypatch.setattr(segments, "REAP_SECONDS", 1000.0)
    path.mkdir()
    with SharedMemory(str(path), segments=2, segment_bytes=SIZE) as made:
        yield made
    assert not (path / made.place.beacon).exists()


def beacons(path: Path) -> list[tuple[str, bytes]]:
    return [(beacon.name, beacon.read_bytes()) for beacon in path.glob("lossd-beacon-*")]


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


def replace(path: Path) -> None:
    path.rename(path.with_name("old"))
    path.mkdir()


def remake(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("change", [empty, replace, remake])
def test_clients_find_the_server_where_the_path_leads_now(
    change: Callable[[Path], None],
    shared: SharedMemory,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(path)
    shared.reap()
    assert shared.is_offered
    assert beacons(path) == [(shared.place.beacon, shared.place.content)]
    if change is replace:
        assert not beacons(path.with_name("old"))
    monkeypatch.setattr(client_files, "is_locked", lambda _: True)
    (path / "file").write_bytes(bytes(SIZE))
    assert shared.attach("file", SIZE)
    assert not (path / "file").exists()


def test_a_copy_of_the_beacon_is_none(shared: SharedMemory, path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    path.rename(path.with_name("old"))
    path.with_name("copy").rename(path)
    shared.reap()
    assert len(beacons(path)) == 2  # until that of nobody is swept
    assert (shared.place.beacon, shared.place.content) in beacons(path)


def test_while_there_is_no_directory_none_is_offered(
    shared: SharedMemory, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = path.with_name("old")
    path.rename(old)
    for _ in range(3):
        shared.reap()
        assert not shared.is_offered
    assert len(caplog.records) == 1
    old.rename(path)
    shared.reap()
    assert shared.is_offered
    assert beacons(path) == [(shared.place.beacon, shared.place.content)]


def test_what_stays_is_left_alone(shared: SharedMemory, path: Path) -> None:
    before = beacons(path)
    shared.reap()
    assert beacons(path) == before


STALE = "lossd-" + "0" * 32  # as the bundled client names its files


def leave(path: Path, name: str) -> Path:
    """Leaves a file as of a client that was killed long ago."""
    file = path / name
    file.write_bytes(b"left")
    os.utime(file, (0, 0))
    return file


@pytest.fixture
def written_no_more(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the system remove nothing, as in what is mounted for reading alone."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    return lambda: monkeypatch.setattr(os, "unlink", refuse)


def test_what_cannot_be_removed_is_told_once(
    path: Path, written_no_more: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    shared = SharedMemory(str(path), segments=2, segment_bytes=SIZE)
    leave(path, STALE)
    written_no_more()
    for _ in range(3):
        shared.reap()
    assert len(caplog.records) == 1
    shared.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_one_beacon_is_enough_where_the_old_one_cannot_be_removed(
    shared: SharedMemory,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written_no_more: Callable[[], None],
) -> None:
    replace(path)
    written_no_more()
    for _ in range(3):
        shared.reap()
    assert beacons(path) == [(shared.place.beacon, shared.place.content)]
    monkeypatch.undo()


OPERATORS = (
    "lossd-networks.tar", "lossd-1", "lossd-beacon-of-mine", f"{STALE}.bak", STALE.upper(),
    "lossd-beacon-" + "0" * 32, "lossd-" + "g" * 32,
)  # fmt: skip


def test_only_what_both_sides_make_is_taken_for_left_behind(
    shared: SharedMemory, path: Path
) -> None:
    left = [leave(path, STALE), leave(path, "lossd-beacon-" + "0" * 16)]
    kept = [leave(path, name) for name in OPERATORS]
    shared.reap()
    assert not [file for file in left if file.exists()]
    assert all(file.exists() for file in kept)


def test_the_bundled_client_names_its_files_as_the_server_knows_them(path: Path) -> None:
    path.mkdir()
    segment = Segment(path, SIZE)
    assert OURS.fullmatch(segment.name)
    segment.unlink()
