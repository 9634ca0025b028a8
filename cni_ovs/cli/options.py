"""Options that several commands have, each with the same meaning everywhere."""

from __future__ import annotations

import click

from cni_ovs.plugin import forms
from cni_ovs.plugin.config import DEFAULT_SOCKET


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
