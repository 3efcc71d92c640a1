"""The error for a framework that is not installed, which says how it is."""


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Returns the error to raise where an import fails: its own, unless the extra brings it.

    Args:
        error: The one that Python raised.
        extra: The extra of lossd, which has the name of the module that it is for.
    """
    if error.name != extra:  # a part of it that is missing is one of an installation that is broken
        return error
    message = f"{extra} must be installed, got none: pip install 'lossd[{extra}]'"
    return ModuleNotFoundError(message, name=error.name)
