"""`cni-ovs schema`: the network configuration as a JSON Schema."""

from __future__ import annotations

import click

from .. import output
from ..configurations import schema


@click.command(short_help="Print the JSON Schema of the network configuration.")
@click.option("--list", "is_list", is_flag=True, help="Of a list of plugins: a .conflist file.")
def command(is_list: bool) -> None:
    r"""Print the JSON Schema (draft 2020-12) of the network configuration.

    An editor that knows it completes keys and marks mistakes while you write, and other programs can check a
    configuration before they apply it. It says the same as the plugin, but for some things that a schema cannot say
    (docs/command.md lists them); `cni-ovs validate` says all of it, with line and column.

    \b
    Examples:
      cni-ovs schema > ovs.schema.json           of a configuration (.conf, .json)
      cni-ovs schema --list > list.schema.json   of a list (.conflist)
    """
    output.print_json(schema.of_list() if is_list else schema.of_plugin())
