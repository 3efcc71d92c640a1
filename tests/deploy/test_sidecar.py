"""The example of the sidecar, run as two processes with a Unix socket in between."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from lossd.client import LossClient
from lossd.v1 import CrossEntropy
from tests.end_to_end.conftest import serve

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "deploy/kubernetes/sidecar/train.py"

# Says on stderr what it opens for writing, makes or removes, and then is lossd.
TELLTALE = """
import os, sys

def tell(event, arguments):
    written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if written or event in ("os.mkdir", "os.remove", "os.rename", "os.truncate"):
        os.write(2, f"wrote {arguments[0]}\\n".encode())

sys.addaudithook(tell)
from lossd.__main__ import main
main()
"""


def test_the_trainer_learns_through_the_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with serve("--backend", "numpy", address=address):
        done = subprocess.run(
            [sys.executable, str(TRAINER)],
            env=os.environ | {"TRAINER_LOSSD": address},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip

    accuracy = re.search(r"^accuracy ([\d.]+)%$", done.stdout, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) >= 95


def test_a_server_writes_nowhere_but_beside_its_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    command = [
        sys.executable, "-B", "-c", TELLTALE, "serve", "--address", address, "--backend", "numpy",
        "--metrics-port", "0",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        with LossClient(address) as client:
            client.compute(CrossEntropy(), predictions=np.zeros((100, 10)), targets=[0] * 100)
        process.terminate()
        _, said = process.communicate(timeout=30)

    assert process.returncode == 0
    written = [line for line in said.splitlines() if line.startswith("wrote ")]
    assert all(Path(line.removeprefix("wrote ")).parent == tmp_path for line in written), written
