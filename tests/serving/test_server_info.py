"""A server knows what it tells of itself, whatever becomes of its files."""

import importlib.metadata
import io
import os
from typing import Any, NoReturn

import grpc
import pytest
from prometheus_client import CollectorRegistry

from lossd import v1
from lossd.losses import LOSSES
from lossd.serving.call import Call, Received
from lossd.serving.telemetry import Telemetry
from tests.serving.test_planned import Streaming
from tests.serving.test_streams import serving


def test_no_file_is_opened_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Telemetry(CollectorRegistry(), losses=LOSSES)) as servicer:

        def missing(*_: Any, **__: Any) -> NoReturn:
            raise OSError("too many open files")

        for module, name in ((io, "open"), (os, "open"), (os, "listdir"), (os, "scandir")):
            monkeypatch.setattr(module, name, missing)
        call = Call(Streaming(), "id")
        told = v1.GetServerInfoResponse.FromString(servicer.get_server_info(Received(b""), call))
        monkeypatch.undo()

    versions = {each.name: each.version for each in told.libraries}
    assert told.version == importlib.metadata.version("lossd")
    assert versions["grpc"] == grpc.__version__
