"""The command line: which commands there are, and how an error is told."""

from __future__ import annotations

import importlib
import re

import click

from cni_ovs import __version__
from cni_ovs.plugin.spelling import nearest

# The commands, as --help arranges them. Each is a file in commands/, which is imported when it is needed.
SECTIONS = {
    "Attach containers": ("attach", "detach", "reattach"),
    "See what is there, and what is wrong": ("show", "doctor", "test"),
    "Write network configurations": ("explain", "validate", "schema", "migrate"),
    "Clean up": ("gc",),
    "Set up the shell": ("completion",),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class _Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"cni_ovs.cli.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return _as_written(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing or name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        meant = nearest(name, COMMANDS)
        raise click.UsageError(f"there is no command {name!r}" + (f"; did you mean {meant!r}?" if meant else ""), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        width = max(map(len, found))
        left = {name: command for name, command in found.items() if command is not None and not command.hidden}
        for title, names in SECTIONS.items():
            rows = [
                (name.ljust(width), left[name].get_short_help_str(formatter.width - width - 4))
                for name in names
                if name in left
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


def _as_written(command: click.Command) -> click.Command:
    r"""The command with click's mark for what is not to be wrapped: a raw docstring has two characters there, \b."""
    command.help = re.sub(r"^( *)\\b$", "\\1\b", command.help or "", flags=re.MULTILINE)
    return command


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


_as_written(app)
