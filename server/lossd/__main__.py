"""The command ``lossd``, which is also ``python -m lossd``."""

import errno
import sys

# Errors of an output that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Runs the command line, or says what has to be installed for it."""
    try:
        from lossd.cli import command  # noqa: PLC0415 - the base install has no click
    except ModuleNotFoundError as error:
        sys.exit(
            f"the command lossd needs {error.name}: install it with pip install 'lossd[server]'"
        )
    try:
        command(prog_name="lossd")
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        sys.exit(f"Error: output must be writable, got {error.strerror}")


if __name__ == "__main__":
    main()
