"""Progress bars on terminals and in notebooks, by ``rich``, which the server and ``demo`` bring.

A bar ends with the loop, however the loop ends.  Why not rich's ``track``: an error in its loop
leaves a generator behind, which waits for its own thread where it is collected.  If that is the
thread that draws another bar, both hang.
"""

import importlib
import numbers
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from lossd.client.errors import InvalidRequestError

Item = TypeVar("Item")
Advance = Callable[[], None]


@contextmanager
def counted(
    items: Iterable[Item],
    description: str = "",
    total: int | None = None,
    *,
    transient: bool = False,
) -> Iterator[Iterator[Item]]:
    """Shows how many of the items were taken; other output goes on as usual.

        with counted(batches, "training") as shown:
            for logits, labels in shown:
                client.compute(CrossEntropy(), logits, labels)

    Args:
        items: The items, which are yielded one by one.
        description: A word for what is done with them.
        total: How many there are; None for their length, if they have one.
        transient: Whether the bar goes when it ends.

    Raises:
        InvalidRequestError: if ``rich`` is not installed.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(description, total, transient=transient) as advance:

        def taken() -> Iterator[Item]:
            for item in items:
                yield item
                advance()

        yield taken()


@contextmanager
def bar(description: str, total: int | None, *, transient: bool = False) -> Iterator[Advance]:
    """Shows a bar, and yields the function that moves it on by one.

    Raises:
        InvalidRequestError: if ``rich`` is not installed.
    """
    console: Any = _rich("rich.console").Console(stderr=True)
    rich: Any = _rich("rich.progress")
    if not (console.is_terminal or console.is_jupyter):  # an older one writes an empty line there
        yield lambda: None
        return
    columns = [*rich.Progress.get_default_columns(), rich.MofNCompleteColumn()]
    with rich.Progress(*columns, console=console, transient=transient) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


def bar_of(progress: bool | int) -> AbstractContextManager[Advance]:  # noqa: FBT001 - or a number
    """Returns the bar of an evaluation: none for False; a number is how many batches will come.

    Raises:
        InvalidRequestError: if ``rich`` is not installed, or it is neither.
    """
    given: object = progress
    if not isinstance(given, numbers.Integral) or given < 0:
        raise InvalidRequestError(
            f"progress must be True, False or a number of batches, got {progress!r:.64}",
            field="progress",
        )
    if progress is False:
        return nullcontext(lambda: None)
    _rich("rich.progress")  # before anything is sent
    return bar("evaluating", None if progress is True else int(progress))


def _rich(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidRequestError(
            f"progress must have rich (pip install rich), got: {error}", field="progress"
        ) from error
