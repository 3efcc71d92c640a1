"""``lossd completion``, and completion for bash, which breaks words at ``=``."""

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

_SHELLS = ("bash", "fish", "zsh")
_VARIABLE = "_LOSSD_COMPLETE"  # tells click that a shell asks for completions
_NO_SPACE = "    [[ ${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace\n    return 0"


@add_completion_class
class Bash(BashComplete):
    """Joins NAME, = and VALUE, which bash takes for three words."""

    source_template = BashComplete.source_template.replace("    return 0", _NO_SPACE)

    def get_completion_args(self) -> tuple[list[str], str]:
        """Returns the words before the one that is completed, and that one."""
        before, last = super().get_completion_args()
        words: list[str] = []
        for word in (*before, last):
            continues = bool(words) and (word == "=" or (word and words[-1].endswith("=")))
            words[-1:] = [words[-1] + word] if continues else [*words[-1:], word]
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Returns the part after the last =, where bash begins a new word."""
        item.value = item.value.rpartition("=")[2] or item.value
        return super().format_completion(item)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a script with which SHELL completes names and values.

    Installed so, for the next shell that is started:

    \b
    mkdir -p ~/.local/share/bash-completion/completions
    lossd completion bash > ~/.local/share/bash-completion/completions/lossd

    \b
    mkdir -p ~/.config/fish/completions
    lossd completion fish > ~/.config/fish/completions/lossd.fish

    \b
    mkdir -p ~/.zfunc
    lossd completion zsh > ~/.zfunc/_lossd
    echo 'fpath+=~/.zfunc; autoload -U compinit; compinit' >> ~/.zshrc

    bash needs its package bash-completion.
    """  # noqa: D301 - click wants the backspace itself, before lines that stay as they are
    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"click must know the shell {shell}, got none of that name")
    click.echo(found(root, {}, "lossd", _VARIABLE).source())
