"""The log tells what went wrong, and nothing of a caller's data."""

import json
import logging
from collections.abc import Iterator

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
