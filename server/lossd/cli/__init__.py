"""The command line: one module for each subcommand, imported when it is asked for."""

import importlib

import click

# Before all others, as it teaches click how bash breaks words.
from lossd.cli.completion import completion
from lossd.naming import guess

__all__ = ["command", "subcommands"]


_OTHERS = (
    "bench", "compute", "config", "demo", "doctor", "evaluate", "healthcheck", "losses", "metrics",
    "serve", "top",
)  # fmt: skip


class _Subcommands(click.Group):
    """Imports a subcommand when it is used: a probe of health needs neither charts nor a server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all subcommands."""
        return sorted({*super().list_commands(ctx), *_OTHERS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a subcommand, or None where there is none of a name."""
        if cmd_name in _OTHERS and cmd_name not in self.commands:
            found = getattr(importlib.import_module(f"lossd.cli.{cmd_name}"), cmd_name)
            self.add_command(found)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the subcommand that is asked for, or guesses at what a misspelt one means.

        Raises:
            click.UsageError: if there is none of the name.
        """
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            hint = guess(name, self.list_commands(ctx))
            raise click.UsageError(
                f"command must be one that lossd --help lists, got {name}{hint}", ctx
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lossd")
def command() -> None:
    """Losses, per-example losses and gradients over gRPC.

    The exit status is 0 where a command did what it was asked, 2 where it was used wrongly, and 1
    where it failed.
    """


command.add_command(completion)


def subcommands() -> dict[str, click.Command]:
    """Returns every subcommand by its name."""
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: one for name, one in found.items() if one is not None}
