"""Files that commands write: checked before the work, with failures reported in one line."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

_NEEDS_TEX = ".pgf"


class OutputFile(click.Path):
    """A path that a file can be written to."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; fails where its directory is missing or may not be written to."""
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


class PlotFile(OutputFile):
    """A path of a picture in a format that matplotlib writes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path; fails where its name ends in another format.

        Raises:
            click.ClickException: if matplotlib is not installed.
        """
        path: Path = super().convert(value, param, ctx)
        known = [f".{name}" for name in _figure().canvas.get_supported_filetypes()]
        formats = [name for name in known if name != _NEEDS_TEX]
        if path.suffix.lower() not in formats:
            self.fail(f"{path} must end in one of {', '.join(formats)}", param, ctx)
        return path


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "demo" brings it
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the plot needs {error.name}: install it with pip install 'lossd[demo]'"
        ) from error
    return Figure()


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
