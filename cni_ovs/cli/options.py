"""Options that several commands have, each with the same meaning everywhere, and types of arguments that are names.

A type says what a shell may offer for a name that is being typed (`cni-ovs completion`). It takes any name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from cni_ovs.plugin import forms
from cni_ovs.plugin.config import DEFAULT_SOCKET

from . import candidates
from .configurations.source import FOLDERS, PLUGIN_FOLDERS

# A shell puts what it is offered into the line as it is, and a name in a database may be anything: so nothing is
# offered that means something to a shell, or would be taken for an option.
_HARMLESS = re.compile(r"[\w./][\w./@%+:-]*", re.ASCII)
_MOST = 1000


class _Name(click.types.StringParamType):
    """A name, of which a shell offers those that are there. A subclass says which."""

    def names(self, ctx: click.Context) -> Iterable[str]:
        """All names that there are, in any order; whatever it raises means none."""
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What may be meant; process.py sees to the time that it takes."""
        try:
            names = set(self.names(ctx))
        except Exception:  # noqa: BLE001 - a line that is being typed is no place for a message
            return []
        offered = sorted(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name))
        return [CompletionItem(name) for name in offered[:_MOST]]


class BridgeName(_Name):
    """The name of a bridge."""

    name = "bridge"

    def names(self, ctx: click.Context) -> Iterable[str]:
        """Those of Open vSwitch."""
        return candidates.bridges(_database_of(ctx))


class TargetName(_Name):
    """What to attach something to; see targets.py."""

    name = "target"

    def names(self, ctx: click.Context) -> Iterable[str]:
        """Those that have names."""
        return candidates.targets()


class InterfaceName(_Name):
    """The name of an interface that a container has from us. The argument `target`, if there is one, says whose."""

    name = "interface"

    def names(self, ctx: click.Context) -> Iterable[str]:
        """Those of the target, or of all containers."""
        return candidates.interfaces(_database_of(ctx), str(ctx.params.get("target") or ""))


class NetworkName(_Name):
    """The name of a network, as in the `name` of its configuration."""

    name = "network"

    def names(self, ctx: click.Context) -> Iterable[str]:
        """Those that something is attached to."""
        return candidates.networks(_database_of(ctx))


class Configuration(_Name):
    """A file with a network configuration, or the name of a network that this node has one of."""

    name = "configuration"

    def names(self, ctx: click.Context) -> Iterable[str]:
        """Those of the networks."""
        return candidates.configured(ctx.params.get("conf_dirs") or FOLDERS)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Networks; if it is none of them, the shell offers files."""
        return super().shell_complete(ctx, param, incomplete) or FILE.shell_complete(ctx, param, incomplete)


# Of these nothing is asked, but the shell completes them: who reads them tells what is wrong.
FILE = click.Path(readable=False)
FOLDER = click.Path(readable=False, file_okay=False)


def _database_of(ctx: click.Context) -> str:
    """What --db says, if the command has that and it is right."""
    return str(ctx.params.get("db") or DEFAULT_SOCKET)


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return forms.socket_file(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


db = click.option(
    "--db",
    default=DEFAULT_SOCKET,
    envvar="CNI_OVS_DB",
    show_default=True,
    show_envvar=True,
    metavar="ADDRESS",
    callback=_address,
    help="Where ovsdb-server listens: unix:PATH, a path, or tcp:ADDRESS:PORT.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

conf_dirs = click.option(
    "--conf-dir",
    "conf_dirs",
    multiple=True,
    default=FOLDERS,
    type=FOLDER,
    show_default=True,
    metavar="FOLDER",
    help="Where the runtime, and Multus, have network configurations; may be given several times.",
)

cni_path = click.option(
    "--cni-path",
    default=PLUGIN_FOLDERS,
    envvar="CNI_PATH",
    show_default=True,
    show_envvar=True,
    metavar="FOLDERS",
    help="Where IPAM plugins are, joined by a colon.",
)
