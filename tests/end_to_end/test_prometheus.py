"""Prometheus itself scrapes a server, and finds what its callers counted."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lossd.client import InvalidRequestError, LossClient
from lossd.v1 import CrossEntropy, Huber
from tests.end_to_end.conftest import Process, page, serve

CONFIG = """
scrape_configs:
  - job_name: lossd
    scrape_interval: 200ms
    scrape_timeout: 200ms
    static_configs: [{{targets: ["{target}"]}}]
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus has it)")
    return found


@contextlib.contextmanager
def prometheus(directory: Path, target: str, beside: str = "") -> Iterator[str]:
    """Runs Prometheus on a target, with what else is to be in its file; gives its address."""
    (directory / "prometheus.yml").write_text(CONFIG.format(target=target) + beside)
    command = [
        tool("prometheus"), f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data", "--web.listen-address=127.0.0.1:0",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://{_address(process)}"
        finally:
            process.kill()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if "Listening on" in line:
            return line.split("address=")[-1].split()[0].strip('"')
    pytest.fail("Prometheus must listen")


def ask(address: str, query: str) -> dict[tuple[str, ...], float]:
    """The answer to a query, by the values of its labels in order of their names."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - ours
            found = json.load(reply)["data"]["result"]
    except urllib.error.HTTPError as error:  # it listens before it is ready
        error.close()
        return {}
    return {
        tuple(value for _, value in sorted(series["metric"].items())): float(series["value"][1])
        for series in found
    }


def test_a_query_equals_what_the_client_counted(tmp_path: Path) -> None:
    tool("prometheus")
    with serve("--backend", "numpy") as server, LossClient(server.address) as client:
        for _ in range(7):
            client.compute(CrossEntropy(), predictions=np.zeros((5, 3)), targets=[0, 1, 2, 0, 1])
        for _ in range(3):
            client.compute(Huber(), predictions=[np.inf, 0.0], targets=[0.0, 0.0])
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                client.compute(Huber(delta=-1), predictions=[0.0], targets=[0.0])
        with prometheus(tmp_path, server.metrics_url.split("/")[2]) as address:
            deadline = time.monotonic() + 20
            while not ask(address, "lossd_ready == 1"):
                assert time.monotonic() < deadline, "Prometheus must have scraped"
                time.sleep(0.1)
            requests = ask(address, "sum by (loss, status) (lossd_requests_total)")
            examples = ask(address, "sum by (loss) (lossd_examples_total)")
            nonfinite = ask(address, "sum by (loss) (lossd_nonfinite_total) > 0")
            rejected = ask(address, "sum by (reason) (lossd_rejected_total)")
            handled = ask(address, 'sum(grpc_server_handled_total{grpc_method="ComputeLoss"})')
            timed = ask(address, 'lossd_phase_duration_seconds_count{phase="compute"}')

    assert requests == {
        ("cross_entropy", "OK"): 7,
        ("huber", "OK"): 3,
        ("huber", "INVALID_ARGUMENT"): 2,
    }
    assert examples == {("cross_entropy",): 35, ("huber",): 6}
    assert nonfinite == {("huber",): 3}
    assert rejected == {("INVALID_PARAMETER",): 2}
    assert handled == {(): 12}
    assert list(timed.values()) == [10]  # what is refused for its parameters is not computed


def test_promtool_finds_nothing_to_say_of_the_names(server: Process, client: LossClient) -> None:
    client.compute(CrossEntropy(), predictions=np.zeros((2, 3)), targets=[0, 1])
    status, scrape = page(server, "/metrics")
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=scrape, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert status == 200
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
