"""`cni-ovs completion`: what makes a shell complete our words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    r"""Print the script that makes a shell complete our words.

    SHELL is bash (4.4 or newer), zsh or fish. With the script the Tab key completes commands and options, and the names
    of bridges, containers, interfaces, networks and files that are there. The script calls cni-ovs for that, so it
    needs no update when cni-ovs has one. Where shells look for it:

    \b
    bash  cni-ovs completion bash > /etc/bash_completion.d/cni-ovs
    zsh   cni-ovs completion zsh > /usr/local/share/zsh/site-functions/_cni-ovs
    fish  cni-ovs completion fish > /etc/fish/completions/cni-ovs.fish

    \b
    In the bash that you are in, at once:
      eval "$(cni-ovs completion bash)"

    bash looks there if the package bash-completion is installed.
    """
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(root.command, {}, "cni-ovs", "_CNI_OVS_COMPLETE")
    # Not source(): that asks the bash of this machine for its version.
    click.echo(script.source_template % script.source_vars(), nl=False)
