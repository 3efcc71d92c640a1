"""Silent calls give way to whoever may be served, and to nobody else."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd import v1
from tests.end_to_end.conftest import metric, serve
from tests.end_to_end.raw import METHOD, Held, request
from tests.waiting import until

SLOTS = 16
TOKEN = "0123456789abcdef"  # noqa: S105 - of this test


class Connection:
    """A connection of its own, and calls that say nothing on it."""

    def __init__(self, address: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._metadata = metadata
        self.channel = grpc.insecure_channel(address, options)
        self.held: list[Held] = []

    def hold(self, count: int) -> None:
        """Begins silent calls."""
        self.held += [Held(self.channel, self._metadata) for _ in range(count)]

    @property
    def over(self) -> int:
        """How many of them have ended."""
        return sum(held.future.done() for held in self.held)

    def compute(self) -> v1.ComputeLossResponse:
        """Computes a loss, without another try."""
        method: Any = self.channel.unary_unary(METHOD)
        reply = method(request(), timeout=10, metadata=self._metadata)
        return v1.ComputeLossResponse.FromString(reply)

    def is_answered(self) -> bool:
        """Computes a loss, or is told to come again."""
        try:
            return self.compute().loss > 0
        except grpc.RpcError:
            return False


@contextmanager
def connections(address: str, *metadata: tuple[tuple[str, str], ...]) -> Iterator[list[Connection]]:
    with ExitStack() as closing:
        made = [Connection(address, each) for each in metadata]
        for each in made:
            closing.enter_context(each.channel)
        yield made


def test_two_connections_that_say_nothing_leave_a_slot_to_a_third() -> None:
    with (
        serve("--backend", "numpy", "--max-calls", str(SLOTS)) as process,
        connections(process.address, (), (), ()) as (first, second, honest),
    ):
        first.hold(SLOTS)
        until(lambda: metric(process, "lossd_inflight_requests") == SLOTS)
        second.hold(SLOTS // 2)
        until(lambda: first.over + second.over >= SLOTS // 2)
        first.hold(SLOTS)  # and takes what was left free
        second.hold(SLOTS)
        until(lambda: metric(process, "lossd_inflight_requests") == SLOTS)
        until(honest.is_answered)  # as the bundled client would, which comes again


def test_only_its_own_calls_give_way_to_a_caller_that_has_its_share(tmp_path: Path) -> None:
    rules, tokens = tmp_path / "rules.toml", {"greedy": TOKEN, "modest": TOKEN[::-1]}
    text = '[callers.{}]\nmay = ["compute"]\ntokens = ["{}"]\ncalls = 2\n'
    rules.write_text("".join(text.format(*each) for each in tokens.items()))
    greedy, modest = ((("authorization", f"Bearer {token}"),) for token in tokens.values())
    with (
        serve("--backend", "numpy", "--max-calls", "4", "--access", str(rules)) as process,
        connections(process.address, greedy, greedy, modest) as (first, second, quiet),
    ):
        first.hold(2)
        quiet.hold(2)
        until(lambda: metric(process, "lossd_inflight_requests") == 4)
        assert second.compute().loss > 0
        until(lambda: first.over == 1)
        second.hold(1)
        until(lambda: metric(process, "lossd_inflight_requests") == 4)
        for _ in range(5):  # the only calls of two connections
            with pytest.raises(grpc.RpcError) as refused:
                second.compute()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert quiet.over == 0


def test_nobody_gives_way_to_a_stranger(tmp_path: Path) -> None:
    file, known = tmp_path / "tokens", (("authorization", f"Bearer {TOKEN}"),)
    file.write_text(TOKEN)
    slots = ("--max-calls", "2", "--caller-calls", "2")
    with (
        serve("--backend", "numpy", *slots, "--token-file", str(file)) as process,
        connections(process.address, known, (), known) as (trusted, stranger, other),
    ):
        trusted.hold(2)
        until(lambda: metric(process, "lossd_inflight_requests") == 2)
        for _ in range(5):
            with pytest.raises(grpc.RpcError):
                stranger.compute()
        assert trusted.over == 0
        until(other.is_answered)  # on a busy machine not at once
        assert trusted.over >= 1
