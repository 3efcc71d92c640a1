"""The command ``lossd``, which is also ``python -m lossd``."""

import sys


def main() -> None:
    """Runs the command line, or says what has to be installed for it."""
    try:
        from lossd.cli import command  # noqa: PLC0415 - the base install has no click
    except ModuleNotFoundError as error:
        sys.exit(
            f"the command lossd needs {error.name}: install it with pip install 'lossd[server]'"
        )
    command(prog_name="lossd")


if __name__ == "__main__":
    main()
