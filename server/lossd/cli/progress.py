"""A progress bar that ends with the loop, however the loop ends."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import Progress

Item = TypeVar("Item")


@contextmanager
def counted(
    items: Iterable[Item], description: str, total: int, *, transient: bool = False
) -> Iterator[Iterator[Item]]:
    """Shows how many of the items were taken.

    Why not rich's ``track``: an error in its loop leaves a generator behind, which waits for its
    own thread wherever it is collected, in the very thread that draws another bar too: they hang.
    """
    with Progress(transient=transient) as progress:
        task = progress.add_task(description, total=total)

        def taken() -> Iterator[Item]:
            for item in items:
                yield item
                progress.advance(task)

        yield taken()
