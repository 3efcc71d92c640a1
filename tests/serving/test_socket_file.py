"""A socket is at its path for as long as its server listens, and nobody else's is ever removed."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lossd.serving import socket_file
from lossd.serving.socket_file import SocketFile


@contextlib.contextmanager
def made(path: Path, mode: int | None = None) -> Iterator[SocketFile]:
    """A socket that is listened on, which is put at a path."""
    with socket.socket(socket.AF_UNIX) as listening:

        def bind(address: str) -> None:
            bound = unquote(address).removeprefix("unix:")
            with contextlib.suppress(FileNotFoundError):  # as gRPC does
                os.unlink(bound)  # noqa: PTH108
            listening.bind(bound)
            listening.listen()

        found = SocketFile(str(path), bind, mode)
        yield found
        found.close()


def leads_somewhere(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lossd and more.sock"


def test_it_is_at_its_path_alone_and_goes_at_the_end(path: Path) -> None:
    with made(path, 0o606) as found:
        assert found.is_in_place()
        assert leads_somewhere(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o606
        assert [*path.parent.iterdir()] == [path]
    assert not [*path.parent.iterdir()]


def test_one_that_was_left_behind_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as before:
        before.bind(str(path))
    with made(path) as found:
        assert found.is_in_place()
        assert leads_somewhere(path)


def test_that_of_another_server_stays(path: Path) -> None:
    with made(path) as one:
        with made(path):
            assert not one.is_in_place()
            one.close()
            assert leads_somewhere(path)
        assert not path.exists()


def test_a_path_as_long_as_may_be_is_bound_itself(tmp_path: Path) -> None:
    long = tmp_path / "d"
    path = long.with_name("d" * (107 - len(str(long)) - 2)) / "s"
    path.parent.mkdir()
    with made(path) as found:
        assert found.is_in_place()
        assert leads_somewhere(path)
    assert not path.exists()


def test_whoever_watches_is_told_that_it_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_file, "LOOKING_SECONDS", 0.01)
    gone = threading.Event()
    with made(path) as found:
        found.watch(gone.set)
        assert not gone.wait(0.2)
        path.rename(path.with_name("elsewhere"))
        assert gone.wait(60)
