"""A progress bar that ends with the loop, however the loop ends."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")


@contextmanager
def counted(
    items: Iterable[Item], description: str, total: int, *, transient: bool = False
) -> Iterator[Iterator[Item]]:
    """Shows on a terminal how many of the items were taken; other output goes on as usual.

    Why not rich's ``track``: an error in its loop leaves a generator behind, which waits for its
    own thread where it is collected.  If that is the thread that draws another bar, both hang.
    """
    console = Console(stderr=True)
    with Progress(
        console=console, transient=transient, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(description, total=total)

        def taken() -> Iterator[Item]:
            for item in items:
                yield item
                progress.advance(task)

        yield taken()
