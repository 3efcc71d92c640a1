"""A file that cannot become a segment is refused, and leaves nothing open."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossd.errors import SegmentRefused, ServiceError
from lossd.serving.shared_memory_service import segments
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
    monkeypatch.setattr(segments, "_is_locked", lambda _: True)
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
        change(file)
        return 1

    monkeypatch.setattr(segments, "_holder", holder)
    before = {*OPEN.iterdir()}
    with pytest.raises(SegmentRefused, match=r"^file must be mapped, got "):
        shared.attach("file", SIZE)
    assert {*OPEN.iterdir()} == before
    assert shared.segments == 0


@pytest.mark.parametrize("spare", [0, 1], ids=["to open it", "to map it"])
def test_a_server_without_descriptors_is_full_and_the_file_stays(
    spare: int, shared: SharedMemory, file: Path
) -> None:
    with file.open("rb") as ours:
        lowest = os.dup(ours.fileno())
        os.close(lowest)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
        try:
            with pytest.raises(ServiceError) as caught:
                shared.attach("file", SIZE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.reason == "SEGMENTS_FULL"
    assert file.exists()
    assert shared.attach("file", SIZE)


@pytest.mark.parametrize("question", ["_is_locked", "_holder"])
def test_a_file_whose_locks_the_system_does_not_tell(
    question: str, shared: SharedMemory, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: int) -> int:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(segments, question, no_locks)
    before = {*OPEN.iterdir()}
    with pytest.raises(SegmentRefused, match="No locks available"):
        shared.attach("file", SIZE)
    assert {*OPEN.iterdir()} == before
    assert file.exists()
