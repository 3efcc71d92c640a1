"""The command ``lossd``, which is also ``python -m lossd``."""

import errno
import io
import os
import signal
import sys

# Errors of an output that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# gRPC reads this when it is imported.  By itself it has threads of its own read from connections,
# which hand each event to the one that takes a server's events; so that one reads by itself, and a
# small call takes seven hand-overs between threads instead of ten.  A version of gRPC that can no
# longer do so writes a line that it does not know the word, and goes on as by itself.
_READING = ("GRPC_EXPERIMENTS", "-event_engine_listener")

_WIDTH = "COLUMNS"  # of the terminal, which what prints tables reads


def main() -> None:
    """Runs the command line, or says what it lacks."""
    _open_what_was_closed()
    _print_whatever_comes()
    _heed_signals()
    if sys.flags.optimize > 1:  # the descriptions of losses and metrics are those of their code
        sys.exit("Error: lossd needs its docstrings: run it without -OO or PYTHONOPTIMIZE=2")
    os.environ.setdefault(*_READING)
    if os.environ.get(_WIDTH) == "0":  # where it is not known: tables would have no room
        del os.environ[_WIDTH]
    try:
        from lossd.cli import command  # noqa: PLC0415 - the base install has no click
    except ModuleNotFoundError as error:
        sys.exit(
            f"the command lossd needs {error.name}: install it with pip install 'lossd[server]'"
        )
    except KeyboardInterrupt:
        sys.exit("Aborted!")  # as click says of one that comes later
    try:
        command(prog_name="lossd")
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        sys.exit(f"Error: output must be writable, got {error.strerror}")


def _open_what_was_closed() -> None:
    """Opens /dev/null for standard streams that the shell closed.

    What is opened next would have their numbers: what gRPC writes of errors would go into a
    connection.  There is still no stdin to read from.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its only one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _print_whatever_comes() -> None:
    """Has standard streams show a question mark for a character that their encoding lacks.

    What prints tables, for one, marks a cell that it cuts in any encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _heed_signals() -> None:
    """Has a signal end this process by itself, until what serves is imported and has its own way.

    SIGINT would be an exception of Python, which click makes an error of; other commands have it
    so.  For the first process of a container the kernel ignores signals that have no handler.
    Those of others would only be slower: they wait while Python does.
    """
    is_first = os.getpid() == 1
    if sys.argv[1:2] == ["serve"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave if is_first else signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if is_first and signal.getsignal(number) != signal.SIG_IGN:  # by nohup
            signal.signal(number, _leave)


def _leave(number: int, _frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
