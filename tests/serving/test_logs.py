"""The log tells what went wrong, and nothing of a caller's data."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossd.serving.config import LogFormat, LogLevel
from lossd.serving.process import logs


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def fail() -> None:
    given = "the numbers of a caller"
    raise RuntimeError(f"{len(given)} went wrong")


def logged(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> str:
    logs.configure(form, LogLevel.INFO)
    try:
        fail()
    except RuntimeError:
        logging.getLogger("lossd.test").exception("internal error", extra={"request_id": "epoch-7"})
    return capsys.readouterr().err


def test_a_line_of_text_has_the_traceback_and_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    text = logged(LogFormat.TEXT, capsys)

    assert "RuntimeError: 23 went wrong" in text
    assert "epoch-7" in text
    assert "the numbers of a caller" not in text


def test_a_line_of_json_has_the_traceback_and_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    line = json.loads(logged(LogFormat.JSON, capsys))

    assert (line["message"], line["request_id"], line["level"]) == (
        "internal error",
        "epoch-7",
        "error",
    )
    assert "RuntimeError" in json.dumps(line["exception"])
    assert "the numbers of a caller" not in json.dumps(line)


NAMES = [
    "evil\x1b[2J\x1b]0;other\x07", "a\x0bb", "a\x85b", "two\r\nlines", "n\u202egnp", "half\ud800",
    "a\x7f",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_line_of_text_is_only_shown(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(LogFormat.TEXT, LogLevel.INFO)
    logging.getLogger("lossd.test").warning("refused %s", name, extra={"caller": name})
    text = capsys.readouterr().err

    assert text.removesuffix("\n").isprintable()
    assert text.endswith(f" caller={name!r}\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_traceback_is_only_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogFormat.TEXT, LogLevel.INFO)
    try:
        float(name)
    except ValueError as error:
        error.add_note(name)
        logging.getLogger("lossd.test").exception("internal error", stack_info=True)
    text = capsys.readouterr().err

    assert all(line.isprintable() for line in text.split("\n"))
    assert repr(name)[1:-1].replace("\\n", "\n") in text


def test_a_name_that_any_terminal_shows_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(LogFormat.TEXT, LogLevel.INFO)
    logging.getLogger("lossd.test").warning("refused", extra={"caller": "Zoë\\x1b"})

    assert capsys.readouterr().err.endswith(" caller=Zoë\\x1b\n")


def test_lines_that_a_full_disk_lacks_room_for_are_told_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room, write = tmp_path / "log", [10], os.write

    def limited(descriptor: int, data: bytes) -> int:
        """Writes as a disk does that is full, or fills."""
        if not (count := min(len(data), room[0])):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= count
        return write(descriptor, data[:count])

    with path.open("w") as stream:
        lines = logs.Lines(stream)
        monkeypatch.setattr(os, "write", limited)
        for text in ("of which half has room", "of which nothing has"):
            lines.emit(logging.makeLogRecord({"msg": text}))
        assert lines.lost == 2
        room[0] = 1000
        lines.emit(logging.makeLogRecord({"msg": "there is some"}))
        monkeypatch.undo()
    assert path.read_text().split("\n") == [
        "of which h", "lines were lost: no room for them", "there is some", "",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_lines_for_a_disk_that_stays_full_are_counted() -> None:
    with Path("/dev/full").open("w") as stream:
        lines = logs.Lines(stream)
        for _ in range(3):
            lines.emit(logging.makeLogRecord({"msg": "none has room"}))
    assert lines.lost == 3


def test_lines_that_nobody_reads_are_told_once_on_a_line_of_their_own() -> None:
    end, written = os.pipe()
    with os.fdopen(end, "rb", buffering=0) as pipe, os.fdopen(written, "w") as stream:
        lines = logs.Lines(stream)

        def log(text: str) -> None:
            lines.emit(logging.makeLogRecord({"msg": text}))

        log("x" * 1_000_000)  # of which the end is cut off
        log("of which not even the beginning has room")
        assert lines.lost == 2
        assert not pipe.read(1 << 20).strip(b"x")
        log("one")
        log("two")
        assert pipe.read(1 << 20).decode().split("\n") == [
            "", "lines were lost: no room for them", "one", "two", "",
        ]  # fmt: skip
