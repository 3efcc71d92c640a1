"""A program ends, and leaves nothing behind, whatever it left open when its last line was run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGINNING = """
import asyncio, contextlib, sys, threading
import numpy as np
from lossd.client import AsyncLossClient, LossClient, local, local_server
from lossd.v1 import Accuracy, Huber

batch = {"predictions": np.eye(3), "targets": [0, 1, 2]}
opened = contextlib.ExitStack()
client = opened.enter_context(local(backend="numpy"))
address = opened.enter_context(local_server(backend="numpy"))
"""
ENDINGS = {
    "threads": """
submitted = [client.submit(Huber(), np.ones(1 << 20), np.zeros(1 << 20)) for _ in range(20)]
run = client.evaluation(Accuracy()).__enter__()
run.update(**batch)

def steps():
    with LossClient(address) as mine, mine.evaluation(Accuracy()) as run:
        run.update(**batch)
        yield

left = steps()
next(left)
""",
    "tasks": """
mine = AsyncLossClient(address)

async def main():
    global run, tasks
    run = await mine.evaluation(Accuracy()).__aenter__()
    await run.update(**batch)
    big = np.ones(1 << 20)
    tasks = [asyncio.ensure_future(mine.compute(Huber(), big, big)) for _ in range(4)]
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(main(), loop).result(20)
""",
}


@pytest.mark.parametrize("left", ENDINGS)
def test_a_program_ends_and_its_folders_go(left: str, tmp_path: Path) -> None:
    program = BEGINNING + ENDINGS[left]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not list(tmp_path.iterdir())
