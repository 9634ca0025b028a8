"""`cni-ovs detach`: what `cni-ovs attach` has attached."""

from __future__ import annotations

from typing import Any

import click

from cni_ovs.plugin.errors import CniError

from .. import attaching, belongings, options, recorded
from ..belongings import Belonging
from ..failure import Failure, from_plugin
from ..output import plain, print_json, say


@click.command(short_help="Detach an interface of a container.")
@click.argument("target", type=options.TargetName())
@click.argument("ifname", type=options.InterfaceName(), required=False)
@click.option("--all", "everything", is_flag=True, help="All that `cni-ovs attach` has attached to TARGET.")
@click.option("--force", is_flag=True, help="Also what a container runtime has attached.")
@options.cni_path
@options.db
@options.as_json
def command(
    target: str, ifname: str | None, everything: bool, force: bool, cni_path: str, db: str, as_json: bool
) -> None:
    r"""Detach the interface IFNAME of the container TARGET: port, device, rules and address.

    TARGET is what it is for `cni-ovs attach`; if the container is gone, its name or id is enough. If the address cannot
    be returned, the same command, typed again, does the rest.

    What a container runtime has attached is the runtime's to detach: it would go on believing that the interface is
    there. --force does it all the same.

    \b
    Examples:
      cni-ovs detach web eth1
      cni-ovs detach web --all
    """
    if (ifname is None) is not everything:
        raise click.UsageError("Name either an interface, or --all.")
    found = belongings.of(db, target, ifname)
    chosen = [one for one in found if force or recorded.by_hand(one.external_ids)]
    if not chosen:
        names = ", ".join(one.ifname for one in found)
        what = f"{names} of {target!r} was attached by a container runtime"
        raise Failure(what, "let the runtime detach it by ending the container, or use --force")
    done: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for one in chosen:
        attaching.check_stop()
        entry = {"ifname": one.ifname, "bridge": one.bridge, "port": one.port}
        done.append(entry)
        try:
            _detach(one, db, cni_path)
        except (CniError, Failure) as error:
            failed.append(from_plugin(error) if isinstance(error, CniError) else error)
            entry |= {"error": failed[-1].message, "remedy": failed[-1].remedy}
        else:
            if not as_json:
                what = f"detached {one.ifname} of {target}"
                say(plain(f"{what} from bridge {one.bridge}" if one.hangs else f"{what}: the rest is done"))
    if as_json:
        print_json(done)
    if len(chosen) == 1 and failed:
        raise failed[0]
    if failed:
        told = [f"{entry['ifname']}: {entry['error']}" for entry in done if "error" in entry]
        raise Failure(f"{len(failed)} of {len(chosen)} are not detached: {'; '.join(told)}", failed[0].remedy)


def _detach(one: Belonging, db: str, cni_path: str) -> None:
    record = recorded.known(one.external_ids)
    if record is None:
        if one.hangs is None:
            raise Failure(f"nobody knows how the address of {one.ifname} is to be returned", "see `cni-ovs gc`")
        record = recorded.from_rows(*one.hangs)
        what = f"nobody knows how {one.ifname} got its address; if it has one, its runtime has to return it"
        click.echo(plain(f"cni-ovs: warning: {what}"), err=True)
    attaching.detach(one.external_ids, record, db, cni_path)
