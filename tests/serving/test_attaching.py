"""A file that cannot become a segment is refused, and leaves nothing open."""

import contextlib
import errno
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from lossd.errors import SegmentRefused, ServiceError
from lossd.serving.shared_memory_service import client_files
from lossd.serving.shared_memory_service.segments import SharedMemory

SIZE = 1 << 16
OPEN = Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not OPEN.exists(), reason="memory is shared on Linux only")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedMemory]:
    with SharedMemory(str(tmp_path), segments=2, segment_bytes=SIZE) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client's, which says that it is locked."""
    monkeypatch.setattr(client_files, "is_locked", lambda _: True)
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.mark.parametrize(
    "change",
    [lambda path: os.truncate(path, 0), lambda path: os.truncate(path, SIZE // 2), Path.unlink],
    ids=["emptied", "shrunk", "renamed"],
)
def test_a_file_that_changes_while_it_is_attached(
    change: Callable[[Path], None],
    shared: SharedMemory,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def holder(_: int) -> int:
        assert is_open(file)
        change(file)
        return 1

    monkeypatch.setattr(client_files, "holder", holder)
    with pytest.raises(SegmentRefused, match=r"^file must be mapped, got "):
        shared.attach("file", SIZE)
    assert not is_open(file)
    assert shared.segments == 0


def is_open(file: Path) -> bool:
    """Whether this process has a file open, whatever its other threads open and close."""
    held = []
    for path in OPEN.iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(str(path.readlink()).removesuffix(" (deleted)"))
    return str(file) in held


@pytest.mark.parametrize("spare", [0, 1], ids=["to open it", "to map it"])
def test_a_server_without_descriptors_is_full_and_the_file_stays(spare: int, file: Path) -> None:
    """In a process of its own, whose other threads neither open nor close files."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        refused = pool.submit(refused_without_descriptors, file, spare)
        assert refused.result(60) == "SEGMENTS_FULL"


def refused_without_descriptors(file: Path, spare: int) -> str | None:
    """Returns why a file is not attached where so many more may be open; then it can be."""
    with (
        mock.patch.object(client_files, "is_locked", return_value=True),
        SharedMemory(str(file.parent), segments=2, segment_bytes=SIZE) as shared,
        file.open("rb") as ours,
    ):
        lowest = os.dup(ours.fileno())
        os.close(lowest)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
        try:
            with pytest.raises(ServiceError) as caught:
                shared.attach("file", SIZE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert file.exists()
        assert shared.attach("file", SIZE)
    return caught.value.reason


@pytest.mark.parametrize("question", ["is_locked", "holder"])
def test_a_file_whose_locks_the_system_does_not_tell(
    question: str, shared: SharedMemory, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: int) -> int:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(client_files, question, no_locks)
    before = {*OPEN.iterdir()}
    with pytest.raises(SegmentRefused, match="No locks available"):
        shared.attach("file", SIZE)
    assert {*OPEN.iterdir()} == before
    assert file.exists()
