"""``python -m lossd.client ADDRESS`` tells how a server is, and the version of the client."""

import importlib.metadata
from typing import Any

import pytest

from lossd import client
from lossd.client.__main__ import main


def test_a_server_that_is_ready(serve: Any, capsys: Any) -> None:
    assert main([serve().address]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["status"].startswith("ready")
    assert lines["server"].strip() == "1.2.3"
    assert lines["client"].strip() == client.__version__


def test_no_server(capsys: Any) -> None:
    assert main(["127.0.0.1:1", "--timeout", "0.2"]) == 1
    assert "127.0.0.1:1 is not ready" in capsys.readouterr().err
    assert main(["nowhere"]) == 1
    assert "target must be host:port" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1_0", "soon", ""])
def test_a_timeout_is_a_number(text: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["127.0.0.1:1", "--timeout", text])
    assert ended.value.code == 2
    assert f"must be a number, got {text}" in capsys.readouterr().err


def test_the_version_is_that_of_the_package() -> None:
    assert client.__version__ == importlib.metadata.version("lossd")
    with pytest.raises(AttributeError, match="no attribute 'versions'"):
        client.versions  # type: ignore[attr-defined]  # noqa: B018
