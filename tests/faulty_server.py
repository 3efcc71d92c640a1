"""Runs ``lossd`` with a fault in it, named by the first argument."""

import functools
import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from lossd.__main__ import main as lossd
from lossd.engine import Engine
from lossd.serving import app
from lossd.serving.process import pulse
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.telemetry import Telemetry

# What a call to this method sets off where gRPC's thread can be hit.
TRIGGER = "/lossd.v1.LossService/GetServerInfo"


def at_call(fault: Callable[[str], object]) -> None:
    """Has gRPC's thread do something at every call, whose method it is told."""
    usual = Boundary.service

    def service(self: Any, details: Any) -> Any:
        fault(details.method)
        return usual(self, details)

    Boundary.service = service  # type: ignore[method-assign]


def at_trigger(fault: Callable[[], object]) -> None:
    """Has gRPC's thread do something when the method is called that sets it off."""
    at_call(lambda method: fault() if method == TRIGGER else None)


def dies() -> None:
    """GRPC's thread ends by an exception, as it does without memory."""

    class OutOfMemory(BaseException):
        """Passes what gRPC catches."""

    def fault() -> NoReturn:
        raise OutOfMemory

    at_trigger(fault)


def waits() -> None:
    """GRPC's thread waits for what never comes."""
    at_trigger(threading.Event().wait)


def waits_and_is_asked_often() -> None:
    """The same, and the server asks itself ten times a second."""
    waits()
    _ask_often()


def asks_often() -> None:
    """The server asks itself ten times a second, and waits for each answer as it usually does.

    So what it misses was refused, and not late on a busy machine.
    """
    own = vars(pulse)
    usual = own["_is_answered"]
    own["_is_answered"] = lambda method, _seconds: usual(method, 5)
    _ask_often()


def _ask_often() -> None:
    own = vars(app)
    own["Pulse"] = functools.partial(own["Pulse"], seconds=0.1)


def tells_what_is_collected() -> None:
    """Says at a call how many objects the garbage collector looks at, and how many it does not.

    That is no fault, but nobody else can ask.
    """
    at_trigger(lambda: print(len(gc.get_objects()), gc.get_freeze_count(), flush=True))  # noqa: T201


def makes_no_thread() -> None:
    """The system has no thread left once the server is ready."""
    usual = app.start

    def start(*arguments: Any, **named: Any) -> Any:
        server = usual(*arguments, **named)

        def refuse(self: threading.Thread) -> NoReturn:
            raise RuntimeError(f"can't start new thread {self.name}")

        threading.Thread.start = refuse  # type: ignore[method-assign]
        return server

    app.start = start


def _first(name: str, do: Callable[[], object]) -> None:
    """Has a part of the start do something before it does what it does."""
    usual = vars(app)[name]

    def part(*arguments: Any, **named: Any) -> Any:
        do()
        return usual(*arguments, **named)

    vars(app)[name] = part


def _say_and_wait(seconds: float) -> None:
    print("waits", flush=True)  # noqa: T201 - for the test
    time.sleep(seconds)


def checks_for_long() -> None:
    """The device takes an hour to be checked."""
    _first("_checked", functools.partial(_say_and_wait, 3600))


def lingers_before_it_is_ready() -> None:
    """It takes seconds from where it listens to where it is ready."""
    usual = vars(app)["_serve"]

    def serve(*arguments: Any, **named: Any) -> Any:
        served = usual(*arguments, **named)
        _say_and_wait(2)
        return served

    vars(app)["_serve"] = serve


def cannot_be_checked() -> None:
    """The check of the device has a fault itself."""

    def fail() -> NoReturn:
        raise ArithmeticError("nobody thought of this")

    _first("_checked", fail)


def computes_on() -> None:
    """A loss is computed for a minute, whoever waits."""

    def run(*_: Any, **__: Any) -> NoReturn:
        time.sleep(60)
        raise AssertionError("the process should be gone")

    Engine.compute = run  # type: ignore[method-assign]  # the fault


def keeps_memory() -> None:
    """Half a MiB of each call is never freed."""
    kept: list[bytes] = []
    at_call(lambda _: kept.append(b"x" * (1 << 19)))


def keeps_descriptors() -> None:
    """A file of each call is never closed."""
    at_call(lambda _: os.open(os.devnull, os.O_RDONLY))


def forgets_that_calls_end() -> None:
    """Every tenth call is counted as started, and not as ended."""
    usual = Telemetry.ended
    numbers = itertools.count()

    def ended(self: Any, *arguments: Any) -> None:
        if next(numbers) % 10:
            usual(self, *arguments)

    Telemetry.ended = ended  # type: ignore[assignment, method-assign]


def keeps_places() -> None:
    """Every tenth call stays among those that were let in."""
    usual = AdmissionTicket.finish
    numbers = itertools.count()

    def finish(self: Any) -> None:
        if next(numbers) % 10:
            usual(self)

    AdmissionTicket.finish = finish  # type: ignore[method-assign]


FAULTS = {
    fault.__name__: fault
    for fault in (
        dies, waits, waits_and_is_asked_often, asks_often, tells_what_is_collected, makes_no_thread,
        checks_for_long, lingers_before_it_is_ready, cannot_be_checked, computes_on, keeps_memory,
        keeps_descriptors, forgets_that_calls_end, keeps_places,
    )
}  # fmt: skip


def main() -> None:
    """Takes the command of a server, as it would be run without this."""
    FAULTS[sys.argv[1]]()
    sys.argv = ["lossd", *sys.argv[sys.argv.index("lossd") + 1 :]]
    lossd()


if __name__ == "__main__":
    main()
