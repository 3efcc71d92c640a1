"""A server in the process of its client answers as one in a process of its own does."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import (
    AsyncLossClient,
    InvalidRequestError,
    LossClient,
    UnavailableError,
    local,
    local_server,
)
from lossd.v1 import Accuracy, CrossEntropy
from tests.end_to_end.conftest import serve


def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.standard_normal((64, 10), np.float32), random.integers(0, 10, 64)


def test_replies_have_the_bits_of_another_process() -> None:
    logits, labels = batch()
    with serve("--backend", "numpy") as process, LossClient(process.address) as client:
        expected = client.compute(CrossEntropy(), logits, labels)
    with local(backend="numpy") as client:
        found = client.compute(CrossEntropy(), logits, labels)
        accuracy = client.evaluate(Accuracy(), predictions=logits, targets=labels).value
    assert accuracy == np.mean(logits.argmax(1) == labels)
    assert found.loss == expected.loss
    assert found.gradients["predictions"].tobytes() == expected.gradients["predictions"].tobytes()


def test_any_client_finds_it_while_it_runs() -> None:
    logits, labels = batch()

    async def compute(address: str) -> float:
        async with AsyncLossClient(address) as client:
            found = (await client.compute(CrossEntropy(), logits, labels)).loss
            assert found is not None
            return found

    with local_server(backend="numpy") as address:
        assert asyncio.run(compute(address)) > 0
    with LossClient(address, timeout=0.2) as client, pytest.raises(UnavailableError):
        client.compute(CrossEntropy(), logits, labels)


def test_settings_are_those_of_the_server() -> None:
    with pytest.raises(InvalidRequestError, match="server, got bakend: did you mean backend"):
        local(bakend="numpy").__enter__()


def test_a_backend_is_the_one_of_its_name() -> None:
    with local(backend="numpy") as client:
        assert client.server_info().backend_reason == "asked for"
    with local(backend="auto") as client:
        assert client.server_info().backend_reason != "asked for"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("backend", "numpi", "backend must be one of .*: did you mean numpy"),
        ("threads", "2", "threads must be a whole number, got '2'"),
        ("max_calls", 0, r"max_calls must be in \[1, 4096\], got 0"),
    ],
)
def test_a_value_that_no_server_starts_with_is_refused(
    setting: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{message}") as caught:
        local(**{setting: value}).__enter__()
    assert caught.value.field == setting


def test_a_directory_that_nothing_would_be_shared_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"^shm_dir must be left out") as caught:
        local(backend="numpy", shm_dir=str(tmp_path)).__enter__()
    assert caught.value.field == "shm_dir"


SHARING = """
import sys
import numpy as np
from lossd.client import LossClient

batch = np.ones((1 << 15, 8), np.float32)
with LossClient(sys.argv[1]) as client:
    print(client.compute("squared_error", batch, batch).transport)
"""


def test_a_server_in_a_process_shares_memory_with_clients_in_others(tmp_path: Path) -> None:
    large = np.ones((1 << 15, 8), np.float32)
    with local_server(backend="numpy", shm_dir=str(tmp_path)) as address:
        with LossClient(address) as client:
            assert client.compute("squared_error", large, large).transport == "grpc"
        other = subprocess.run(
            [sys.executable, "-c", SHARING, address],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            timeout=40,
            check=False,
        )
    assert other.stdout.split() == [b"shared_memory"], other.stderr.decode()


def test_what_a_server_fails_to_start_with_is_told_as_a_mistake() -> None:
    with pytest.raises(InvalidRequestError, match=r"^networks must .*/no/such/folder"):
        local(networks="/no/such/folder").__enter__()


def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lossd.serving.app", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'lossd\[server\]'"):
        local().__enter__()
