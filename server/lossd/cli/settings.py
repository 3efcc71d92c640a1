"""Flags and environment variables, made from the declaration of the server's settings."""

import enum
from collections.abc import Callable
from typing import Any

import click

from lossd.serving.config import Config, ConfigError, Setting, settings

Command = Callable[..., Any]


def takes_settings(command: Command) -> Command:
    """Gives a command the flags of every setting; it is called with a ``Config``."""

    def with_config(**values: Any) -> Any:
        given = {s.name: s.type(values.pop(s.name)) for s in settings()}
        try:
            config = Config(**given)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return command(config=config, **values)

    with_config.__doc__ = command.__doc__
    with_config.__name__ = command.__name__
    for setting in reversed(settings()):
        with_config = _option(setting)(with_config)
    return with_config


def _option(setting: Setting) -> Callable[[Command], Command]:
    flag = f"{setting.flag}/--no-{setting.flag[2:]}" if setting.type is bool else setting.flag
    return click.option(
        flag,
        setting.name,
        type=_type(setting),
        default=_plain(setting.default),
        envvar=setting.variable,
        show_envvar=True,
        show_default=True,
        help=setting.description,
    )


def _plain(default: Any) -> Any:
    return default.value if isinstance(default, enum.Enum) else default


def _type(setting: Setting) -> Any:
    if issubclass(setting.type, enum.Enum):
        return click.Choice([member.value for member in setting.type])
    return setting.type
