"""Progress bars, which are seen on terminals alone."""

import sys
from typing import Any

import numpy as np
import pytest

from lossd.client import InvalidRequestError
from lossd.client.progress import counted
from lossd.v1 import Accuracy
from tests.end_to_end.conftest import serve as serve_process


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the error output for a terminal


@pytest.mark.usefixtures("terminal")
def test_items_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with counted([1, 2, 3], "counting") as shown:
        assert list(shown) == [1, 2, 3]
    told = capsys.readouterr()
    assert "counting" in told.err
    assert "3/3" in told.err
    assert not told.out


def test_nothing_is_shown_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with counted(iter(range(3)), "counting") as shown:
        assert list(shown) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("terminal")
def test_an_evaluation_shows_how_many_batches_were_sent(
    connect: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"predictions": [0.5, -0.5], "targets": [1, 1]}
    with serve_process("--backend", "numpy") as process, connect(process.address) as client:
        for progress, told in ((5, "4/5"), (np.int64(5), "4/5"), (True, "4/?"), (False, "")):
            with client.evaluation(Accuracy(), progress=progress) as run:
                for _ in range(4):
                    run.update(**given)
                assert run.result().value == 0.5
            seen = capsys.readouterr().err
            assert ("evaluating" in seen) == (progress is not False)
            assert told in seen


def test_without_rich_it_is_said_what_to_install(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"rich", *(name for name in sys.modules if name.startswith("rich."))}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidRequestError, match="pip install rich"), counted([1]) as shown:
        list(shown)
    with connect("127.0.0.1:9") as client:
        client.evaluation(Accuracy())
        with pytest.raises(InvalidRequestError, match="pip install rich"):
            client.evaluation(Accuracy(), progress=True)
