"""Clients may come and go as they like."""

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests.end_to_end.coming_and_going import come_and_go
from tests.end_to_end.conftest import serve


def test_clients_that_come_and_go_are_all_answered(
    whole: bool,  # noqa: FBT001
) -> None:
    clients = 3000 if whole else 1000  # a server that they can make deaf is so after a thousand
    with serve("--backend", "numpy") as process:
        tally = come_and_go(process.address, clients)
        assert tally.faults == []
        assert (tally.answered, tally.killed) == (clients, clients // 1000)
        with LossClient(process.address) as client:
            assert client.compute(SquaredError(), [2.0], [0.0], timeout=20).loss == 4
        assert process.end() == 0
