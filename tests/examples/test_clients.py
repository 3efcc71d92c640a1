"""The clients in other languages, where they are built: what they print, and the vectors."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.vector import INDEX
from tests.end_to_end.conftest import Process, serve

CLIENTS = Path(__file__).resolve().parents[2] / "examples/clients"
# The program that is built, its sources, and the commands of the example and of the vectors.
BUILT = {
    "node": (
        "node/dist/main.js", "node/src/*.ts",
        ["node", "node/dist/main.js"], ["node", "node/dist/conformance.js"],
    ),
    "go": (
        "go/build/lossd-client", "go/*.go",
        ["go/build/lossd-client"], ["go/build/lossd-client"],
    ),
    "java": (
        "java/build/lossd-client.jar", "java/src/example/*.java",
        ["java", "-jar", "java/build/lossd-client.jar"],
        ["java", "-jar", "java/build/lossd-client.jar"],
    ),
}  # fmt: skip
COUNT = len(json.loads(INDEX.read_text())["vectors"]) + 13


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with serve("--backend", "numpy", "--threads", "2") as process:
        yield process


@pytest.fixture(params=BUILT)
def language(request: pytest.FixtureRequest) -> str:
    program, sources, command, _ = BUILT[request.param]
    if not (CLIENTS / program).exists():
        pytest.skip(f"{program} is not built: bash examples/clients/build.sh builds it")
    if command[0] in ("node", "java") and shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    newest = max(path.stat().st_mtime for path in CLIENTS.glob(sources))
    assert newest <= (CLIENTS / program).stat().st_mtime, "build it again: its sources are newer"
    return str(request.param)


def run(command: list[str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=CLIENTS, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_small_batch_one_in_chunks_and_a_refusal(server: Process, language: str) -> None:
    done = run(BUILT[language][2], server.address)
    losses = [float(number) for number in re.findall(r"loss ([\d.]+)", done.stdout)]
    # Of the logits (2, -1, 0.5) and (0, 3, -2.5), and of 1024 logits of which the right one is 1.
    small = (
        math.log(math.exp(2) + math.exp(-1) + math.exp(0.5)) - 2
        + math.log(1 + math.exp(3) + math.exp(-2.5)) + 2.5
    ) / 2  # fmt: skip
    large = math.log(math.e + 1023) - 1

    assert done.returncode == 0, done.stderr
    assert losses == pytest.approx([small, large], rel=1e-6)
    assert "67108864 bytes" in done.stdout
    assert "refused: INVALID_ARGUMENT INVALID_TENSOR at inputs.targets\n" in done.stdout
    assert "targets[1] must be in [0, 3), got 7" in done.stdout
    assert re.search(r"call [0-9a-f]{32}\n", done.stdout)


def test_it_keeps_every_vector(server: Process, language: str) -> None:
    done = run(BUILT[language][3], server.address, INDEX.parent)

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == f"{COUNT} passed, 0 failed"


def test_it_finds_planted_faults(server: Process, language: str, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(INDEX.parent / "messages", folder / "messages")
    index = json.loads(INDEX.read_text())
    planted = plant(index, folder)
    (folder / INDEX.name).write_text(json.dumps(index))
    done = run(BUILT[language][3], server.address, folder)

    wrong = {line.split()[1].rstrip(":") for line in done.stdout.splitlines() if "wrong" in line}
    assert done.returncode == 1
    assert wrong - {"encoding"} == planted, done.stdout
    assert f"{COUNT - len(planted) - 1} passed, {len(planted) + 1} failed" in done.stdout


def plant(index: dict[str, list[dict[str, object]]], folder: Path) -> set[str]:
    """Breaks a type, a reason, a number of each precision, and an answer in chunks."""
    vectors = {str(one["name"]): one for one in index["vectors"]}
    index["encodings"][10]["data"] = "ff" + str(index["encodings"][10]["data"])[2:]
    refused = vectors["no_loss"]["refused"]
    assert isinstance(refused, dict)
    refused["reason"] = "NO_LOSS"
    numbers = ("cross_entropy_of_float64", "cross_entropy_of_bfloat16", "stream_of_two_calls",
               "evaluation", "status_of_an_example")  # fmt: skip
    for name in numbers:
        path = Path("messages") / f"{name}.wrong.binpb"
        data = bytearray((folder / str(vectors[name]["replies"])).read_bytes())
        data[-1] ^= 0x40  # of the last number the exponent
        (folder / path).write_bytes(data)
        vectors[name]["replies"] = str(path)
    return {"no_loss", *numbers}
