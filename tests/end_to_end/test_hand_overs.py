"""A small call costs the server few hand-overs between threads."""

from pathlib import Path

from lossd import v1
from lossd.cli.served import running_server
from lossd.client import LossClient


def wakings(process: int, name: str) -> int:
    """How often threads of a process, by the beginning of their name, have waited."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    named = [task for task in tasks if (task / "comm").read_text().startswith(name)]
    return sum(
        int(line.split()[1])
        for task in named
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def test_the_thread_that_takes_events_reads_them_by_itself() -> None:
    calls = 200
    with running_server("--backend", "numpy") as server, LossClient(server.address) as client:

        def compute() -> float:
            return client.compute(v1.SquaredError(), predictions=[1.0], targets=[0.0]).loss

        compute()
        before = wakings(server.process, "event_engine")
        assert [compute() for _ in range(calls)] == [1.0] * calls
        assert wakings(server.process, "event_engine") - before < calls  # else thrice as many
