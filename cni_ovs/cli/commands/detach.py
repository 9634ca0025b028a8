"""`cni-ovs detach`: what `cni-ovs attach` has attached."""

from __future__ import annotations

import click

from .. import attaching, database, options, recorded
from ..failure import Failure
from ..output import print_json, say


@click.command(short_help="Detach an interface of a container.")
@click.argument("target", type=options.TargetName())
@click.argument("ifname", type=options.InterfaceName(), required=False)
@click.option("--all", "everything", is_flag=True, help="All that `cni-ovs attach` has attached to TARGET.")
@click.option("--force", is_flag=True, help="Also what a container runtime has attached.")
@options.db
@options.as_json
def command(target: str, ifname: str | None, everything: bool, force: bool, db: str, as_json: bool) -> None:
    r"""Detach the interface IFNAME of the container TARGET: port, device, rules and address.

    TARGET is what it is for `cni-ovs attach`; if the container is gone, its name or id is enough.

    What a container runtime has attached is the runtime's to detach: it would go on believing that the interface is
    there. --force does it all the same.

    \b
    Examples:
      cni-ovs detach web eth1
      cni-ovs detach web --all
    """
    if (ifname is None) is not everything:
        raise click.UsageError("Name either an interface, or --all.")
    found = attaching.ports_of(database.read(db), target, ifname)
    chosen = [(bridge, port) for bridge, port in found if force or recorded.recorded(port)]
    if not chosen:
        names = ", ".join(port.external_ids.get("contIface", "") for _, port in found)
        what = f"{names} of {target!r} was attached by a container runtime"
        raise Failure(what, "let the runtime detach it by ending the container, or use --force")
    done = []
    for bridge, port in chosen:
        name = port.external_ids.get("contIface", "")
        attaching.detach(port, recorded.of(bridge, port), db)
        done.append({"ifname": name, "bridge": bridge.name, "port": port.name})
        if not as_json:
            say(f"detached {name} of {target} from bridge {bridge.name}")
    if as_json:
        print_json(done)
