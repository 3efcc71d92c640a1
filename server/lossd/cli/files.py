"""Files that commands write: checked before the work, with failures reported in one line."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import click

from lossd.cli.arrays import SAVED

_NEEDS_TEX = ".pgf"


class OutputFile(click.Path):
    """A path that a file can be written to."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; fails where its directory is missing or may not be written to."""
        if not os.fspath(value):  # of which a path would be the directory that this runs in
            self.fail("it must name a file, got an empty name", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(path) == "-":  # stdout, for commands that accept it
            return path
        try:
            _try(path)
        except OSError as error:
            self.fail(f"{path} cannot be written: {error.strerror}", param, ctx)
        return path


def _try(path: Path) -> None:
    """Opens a file for writing without changing it; raises OSError if that fails."""
    existed = path.exists()
    if existed and not path.is_file():  # opening a pipe would wait for its reader
        return
    path.open("ab").close()
    if not existed:
        path.unlink()


class ArraysFile(OutputFile):
    """A path of a file of arrays, whose name says its format."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; fails where its name ends in another format."""
        path: Path = super().convert(value, param, ctx)
        if path.suffix not in SAVED:
            self.fail(f"output must end in {' or '.join(SAVED)}, got {path}", param, ctx)
        return path


class PlotFile(OutputFile):
    """A path of a picture in a format that matplotlib writes.

    Args:
        extra: Who lacks matplotlib is told to install this one.
    """

    def __init__(self, extra: str = "plot") -> None:
        super().__init__()
        self._extra = extra

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; fails where its name ends in another format.

        Raises:
            click.ClickException: if matplotlib is not installed.
        """
        path: Path = super().convert(value, param, ctx)
        known = [f".{name}" for name in _figure(self._extra).canvas.get_supported_filetypes()]
        formats = [name for name in known if name != _NEEDS_TEX]
        if path.suffix.lower() not in formats:
            self.fail(f"{path} must end in one of {', '.join(formats)}", param, ctx)
        return path


def _figure(extra: str) -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "plot" brings it
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the plot needs {error.name}: install it with pip install 'lossd[{extra}]'"
        ) from error
    return Figure()


def check_outputs(read: Iterable[str] = ()) -> None:
    """Checks that the running command writes no file that it reads, and none twice.

    Args:
        read: Files that it reads beyond those that its flags of existing files name.

    Raises:
        click.UsageError: if it would.
    """
    context = click.get_current_context()
    named = [(one, context.params.get(one.name or "")) for one in context.command.params]
    written = [
        (one.opts[0].lstrip("-"), path)
        for one, path in named
        if isinstance(one.type, OutputFile) and path is not None
    ]
    given = [Path("/dev/stdin" if path == "-" else path) for path in read]
    given += [path for one, value in named if _is_read(one) for path in _files(value)]
    for (name, path), other in product(written, given):
        if _is_same(path, other):
            raise click.UsageError(f"{name} must not be an input, got {path}")
    for (name, path), (other_name, other) in combinations(written, 2):
        if _is_same(path, other):
            raise click.UsageError(f"{name} and {other_name} must be two files, got {path}")


def _is_read(option: click.Parameter) -> bool:
    return isinstance(option.type, click.Path) and option.type.exists


def _files(value: Any) -> Iterator[Path]:
    """Yields the files of a flag's value: a path, several, or a directory of them."""
    for path in value if isinstance(value, tuple) else (value,):
        if path is not None:
            yield from path.iterdir() if path.is_dir() else (path,)


def _is_same(one: Path, other: Path) -> bool:
    """Returns whether two paths are of one file that keeps what is written to it."""
    if one.exists() and other.exists():
        return one.is_file() and one.samefile(other)
    return one.resolve() == other.resolve()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Reports in one line what went wrong with a file that seemed fine: a full disk, for example.

    Raises:
        click.ClickException: for errors of the system.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(f"output must be writable, got {path}: {reason}") from error
