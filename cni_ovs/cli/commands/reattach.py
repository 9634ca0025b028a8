"""`cni-ovs reattach`: everything that a running container had."""

from __future__ import annotations

from typing import Any

import click

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.inspection import Inspection

from .. import attaching, database, options, reattaching, recorded, runtimes
from ..failure import Failure
from ..output import print_json, say

_SECONDS = 5.0


@click.command(short_help="Attach anew what a running container has lost.")
@click.argument("target", type=options.TargetName(), required=False)
@click.argument("ifname", type=options.InterfaceName(), required=False)
@click.option("--all", "everybody", is_flag=True, help="All containers on this host.")
@click.option("--force", is_flag=True, help="Also what has lost nothing.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be attached anew.")
@options.db
@options.as_json
def command(
    target: str | None, ifname: str | None, everybody: bool, force: bool, dry_run: bool, db: str, as_json: bool
) -> None:
    r"""Attach anew what the running container TARGET has lost.

    On a bridge with the userspace datapath (datapath_type=netdev) internal ports and taps are devices of ovs-vswitchd,
    and die with it: after its restart the containers have an interface that leads nowhere. This makes each of them
    anew, with the MAC, addresses and routes that it had; no IPAM plugin is asked. So it does for a container that was
    restarted, with what `cni-ovs attach` has attached to it. An attachment that has lost nothing is left as it is.
    TARGET is what it is for `cni-ovs attach`.

    \b
    Examples:
      cni-ovs reattach web
      cni-ovs reattach --all
    """
    if (target is None) is not everybody:
        raise click.UsageError("Name either a container, or --all.")
    _refuse_without_vswitchd(db)
    switch = database.read(db)
    ports = list(switch.attached()) if target is None else attaching.ports_of(switch, target, ifname)
    running = {container.id: container.netns for container in runtimes.containers().containers}
    done: list[dict[str, Any]] = []
    failed = 0
    for bridge, port in ports:
        entry: dict[str, Any] = {
            "container": _container(port),
            "ifname": port.external_ids.get("contIface", ""),
            "bridge": bridge.name,
        }
        try:
            loss = reattaching.look(bridge, port, running)
            entry["lost"] = loss.reason
            if loss.reason or force:
                entry["result"] = None if dry_run else reattaching.reattach(loss, db)
        except (CniError, Failure) as error:
            failed += not (everybody and isinstance(error, reattaching.Gone))
            entry["error"] = error.msg if isinstance(error, CniError) else error.message
            entry["remedy"] = error.details if isinstance(error, CniError) else error.remedy
        done.append(entry)
        if not as_json:
            _tell(entry, dry_run=dry_run)
    if as_json:
        print_json(done)
    if failed:
        raise Failure(f"{failed} of {len(done)} could not be attached anew")


def _refuse_without_vswitchd(db: str) -> None:
    """Refuse to detach what could not be attached anew."""
    inspection = Inspection(db, Deadline(_SECONDS))
    if not (inspection.is_answering() or (inspection.is_answering() is None and inspection.is_served())):
        raise Failure("ovs-vswitchd does not answer", "start it: systemctl start openvswitch-switch")


def _container(port: database.Port) -> str:
    """Whose a port is, for people."""
    return recorded.known_as(port.external_ids) or port.external_ids.get("contID", "")[:12]


def _tell(entry: dict[str, Any], *, dry_run: bool) -> None:
    what = f"{entry['ifname']} of {entry['container']} on bridge {entry['bridge']}"
    if "error" in entry:
        click.echo(f"FAILED  {what}: {entry['error']}", err=True)
        if entry["remedy"]:
            click.echo(f"  to do: {entry['remedy']}", err=True)
    elif "result" in entry:
        say(
            f"{'would attach' if dry_run else 'attached'} {what} anew" + (f": {entry['lost']}" if entry["lost"] else "")
        )
    else:
        say(f"{what} has lost nothing")
