"""`cni-ovs show`: what hangs where."""

from __future__ import annotations

import click

from .. import database, options


@click.command()
@options.db
def command(db: str) -> None:
    """Show bridges."""
    for bridge in database.read(db).bridges:
        click.echo(bridge.name)
