"""What subcommands read from their arguments: parameters, and arrays in files."""

import json
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.message import Message

Array = npt.NDArray[Any]


def set_parameter(message: Message, name: str, text: str) -> None:
    """Sets a parameter of a loss or a metric from its text."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        names = ", ".join(message.DESCRIPTOR.fields_by_name)
        raise click.ClickException(f"--param must be one of {names}, got {name}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if field.enum_type is not None and isinstance(value, str):
        value = next((n for n in field.enum_type.values_by_name if n.endswith(f"_{value}")), value)
    try:
        json_format.ParseDict({name: value}, message)
    except json_format.ParseError as error:
        raise click.ClickException(f"{name} must be a value of its kind, got {text}") from error


def pair(flag: str, text: str) -> tuple[str, str]:
    """The name and the value of an argument NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.ClickException(f"{flag} must be NAME=VALUE, got {text}")
    return name, value


def load(name: str, source: str) -> Array:
    """Reads a .npy file, or one array of an .npz file; nothing in it is ever executed."""
    path, colon, key = source.rpartition(":")
    if not colon or not path.endswith(".npz"):
        path, key = source, ""
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "no array that NumPy can read"
        raise click.ClickException(
            f"{name} must be a readable array, got {path}: {reason}"
        ) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        keys = list(loaded)
        if not key and len(keys) == 1:
            key = keys[0]
        if key not in keys:
            raise click.ClickException(
                f"{name} must name an array of {path} ({', '.join(keys)}), got {key or 'none'}"
            )
        return np.asarray(loaded[key])
