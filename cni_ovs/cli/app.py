"""The command line: which commands there are, and how an error is told."""

from __future__ import annotations

import importlib
from typing import Any

import click

from cni_ovs import __version__
from cni_ovs.plugin.errors import CniError

from .failure import Failure

# Name: its file in commands/, which is imported when it is needed. In the order in which --help tells of them.
COMMANDS = ("attach", "detach", "reattach", "show")


class _Commands(click.Group):
    """Imports a command when it is asked for, and tells of errors that any of them can have."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"cni_ovs.cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CniError as error:
            raise Failure(error.msg, error.details) from error
        except PermissionError as error:
            raise Failure(str(error), "run it as root") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cni-ovs")
def app() -> None:
    r"""Attach containers to Open vSwitch, see what is there, and find what is wrong.

    The plugin `ovs` attaches containers when a container runtime asks it to. This command is for people: it gives a
    running container another network interface, shows which port is whose, and says what to do when a pod has no
    network.

    \b
    Begin with:
      cni-ovs show                 what hangs where
      cni-ovs doctor               what is wrong, and what to do
      cni-ovs attach web eth1 br0  another interface for the container "web"
    """
