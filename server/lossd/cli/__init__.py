"""The command line: one module for each subcommand."""

import click

from lossd.cli.bench import bench
from lossd.cli.completion import completion
from lossd.cli.compute import compute
from lossd.cli.config import config
from lossd.cli.demo import demo
from lossd.cli.doctor import doctor
from lossd.cli.evaluate import evaluate
from lossd.cli.healthcheck import healthcheck
from lossd.cli.losses import losses
from lossd.cli.metrics import metrics
from lossd.cli.serve import serve
from lossd.cli.top import top

__all__ = ["command"]


_SUBCOMMANDS = (
    bench, completion, compute, config, demo, doctor, evaluate, healthcheck, losses, metrics, serve,
    top,
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lossd")
def command() -> None:
    """Losses, per-example losses and gradients over gRPC.

    The exit status is 0 where a command did what it was asked, 2 where it was used wrongly, and 1
    where it failed.
    """


for subcommand in _SUBCOMMANDS:
    command.add_command(subcommand)
