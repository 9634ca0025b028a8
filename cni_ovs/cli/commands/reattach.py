"""`cni-ovs reattach`: everything that a running container had."""

from __future__ import annotations

import os
from typing import Any

import click

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.inspection import Inspection

from .. import attaching, belongings, options, reattaching, recorded
from ..belongings import Belonging
from ..failure import Failure, from_plugin, one_line
from ..output import plain, print_json, say

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
    restarted, with what `cni-ovs attach` has attached to it. An attachment that has lost nothing is left as it is,
    unless --force makes it again as it was made. TARGET is what it is for `cni-ovs attach`.

    If it is interrupted, or fails half way, the same command goes on where it was.

    \b
    Examples:
      cni-ovs reattach web
      cni-ovs reattach --all
    """
    if (target is None) is not everybody:
        raise click.UsageError("Name either a container, or --all.")
    found = belongings.everything(db) if target is None else belongings.of(db, target, ifname)
    # Other notes are of removals, which are not for us to undo.
    chosen = [one for one in found if one.hangs is not None or recorded.interrupted(one.external_ids)]
    _refuse_without_vswitchd(db)
    done: list[dict[str, Any]] = []
    failed = 0
    for one in chosen:
        attaching.check_stop()
        entry: dict[str, Any] = {"container": one.container, "ifname": one.ifname, "bridge": one.bridge}
        try:
            _reattach(one, db, entry, force=force, dry_run=dry_run)
        except (CniError, Failure) as error:
            failed += not (everybody and isinstance(error, reattaching.Gone))
            told = from_plugin(error) if isinstance(error, CniError) else error
            entry |= {"error": told.message, "remedy": told.remedy}
        done.append(entry)
        if not as_json:
            _tell(entry, dry_run=dry_run)
    if as_json:
        print_json(done)
    if failed:
        raise Failure(f"{failed} of {len(done)} could not be attached anew")


def _reattach(one: Belonging, db: str, entry: dict[str, Any], *, force: bool, dry_run: bool) -> None:
    """Attach it anew if it has lost something, and put into the entry what is told of that."""
    if not dry_run:
        reattaching.finish(one, db)
    loss = reattaching.look(one)
    entry["lost"] = loss.reason
    if not loss.reason and not force:
        return
    if dry_run:
        entry["result"] = None
        return
    attached, record = reattaching.reattach(loss, db)
    entry["result"] = attached.result
    if record.others:
        entry["not_run"] = list(record.others)


def _refuse_without_vswitchd(db: str) -> None:
    """Refuse to detach what could not be attached anew."""
    inspection = Inspection(db, Deadline(_SECONDS))
    if not (inspection.is_answering() or (inspection.is_answering() is None and inspection.is_served())):
        start = "start it: systemctl start openvswitch-switch"
        raise Failure("ovs-vswitchd does not answer", start if os.geteuid() == 0 else f"run this as root; or {start}")


def _tell(entry: dict[str, Any], *, dry_run: bool) -> None:
    what = f"{entry['ifname']} of {entry['container']} on bridge {entry['bridge']}"
    if "error" in entry:
        click.echo(one_line(f"FAILED  {what}: {entry['error']}"), err=True)
        if entry["remedy"]:
            click.echo(f"  to do: {one_line(entry['remedy'])}", err=True)
    elif "result" in entry:
        why = f": {entry['lost']}" if entry["lost"] else ""
        say(plain(f"{'would attach' if dry_run else 'attached'} {what} anew{why}"))
        if "not_run" in entry:
            say(plain(f"  of its chain not run again: {', '.join(entry['not_run'])}"))
    else:
        say(plain(f"{what} has lost nothing"))
