"""`cni-ovs gc`: remove what is left of containers that are gone."""

from __future__ import annotations

import click
from rich.text import Text

from .. import leftovers, options, output
from ..configurations import networks
from ..output import plain, say
from ..stopping import Stop


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option(
    "--network", type=options.NetworkName(), default="", metavar="NAME", help="Only what belongs to this network."
)
@options.conf_dirs
@options.cni_path
@options.db
@options.as_json
def command(dry_run: bool, network: str, conf_dirs: tuple[str, ...], cni_path: str, db: str, as_json: bool) -> None:
    r"""Remove what is left of containers that are gone.

    A container runtime detaches a container before it forgets it. If it does not (it has crashed, say, or its records
    are lost), the port stays in Open vSwitch, with its OpenFlow rules and limits, and its IP address stays taken.
    This command removes ports whose container is provably gone, with all that belongs to them, and finishes removals
    that were interrupted. What belongs to a container that lives, or of which that cannot be known from here, is kept,
    and the latter is told.

    An address is returned by the IPAM plugin that the attachment was made with, as `cni-ovs attach` or libcni has
    recorded it, or that the configuration of its network names. Where neither is found, the port is removed and the
    address stays.

    \b
    Examples:
      cni-ovs gc --dry-run          what would be removed
      cni-ovs gc                    remove it
      cni-ovs gc --network storage  only what belongs to one network

    Exit code: 0 if everything that can be removed is removed, 1 if something of it could not be.
    """
    known = networks.read(conf_dirs)
    outcome: list[tuple[leftovers.Item, str]] = []
    with Stop() as stop:
        findings = leftovers.Search(db, network, known, cni_path, (stop.fd,)).run()
        if not as_json:
            _print_unreadable(known)
        planned = ((item, "") for item, _ in findings.stale)
        for item, error in planned if dry_run else leftovers.remove(findings, stop.check):
            outcome.append((item, error))
            if not as_json:
                _print_item(item, error, dry_run)
    if as_json:
        output.print_json(leftovers.as_json(findings, outcome, dry_run=dry_run))
    else:
        _conclude(findings, sum(1 for _, error in outcome if error), dry_run)
    raise SystemExit(1 if any(error for _, error in outcome) else 0)


def _print_unreadable(known: networks.Networks) -> None:
    for text in known.unreadable:
        say(Text(f"ignored: {plain(text)}", "yellow"))


def _print_item(item: leftovers.Item, error: str, dry_run: bool) -> None:
    word = ("failed", "red") if error else ("would remove", "bold") if dry_run else ("removed", "green")
    say(Text.assemble(word, f" {_describe(item)}: {plain(error or item.why)}"))
    if item.address and not error:
        say(Text(f"  its address {plain(item.address)}"))
        if item.address.startswith("stays"):
            say(Text(f"  to do: {_remedy(item)}"))


def _conclude(findings: leftovers.Findings, failed: int, dry_run: bool) -> None:
    for item in findings.kept:
        say(Text.assemble(("kept", "yellow"), f" {_describe(item)}: {plain(item.why)}"))
    counts = [f"{len(findings.stale) - failed} {'to remove' if dry_run else 'removed'}"]
    counts += [f"{failed} failed"] if failed else []
    counts += [f"{len(findings.kept)} kept because it cannot be known"] if findings.kept else []
    say(Text(", ".join([*counts, f"{findings.alive} ports of living containers"])))


def _remedy(item: leftovers.Item) -> str:
    whose = f"container {plain(item.container_id)}, interface {plain(item.interface)}"
    return f"call the network's IPAM plugin with DEL for {whose}, or name the folder of its configuration: --conf-dir"


def _describe(item: leftovers.Item) -> str:
    if item.kind == leftovers.RULES:
        return f"OpenFlow rules {item.name} of {plain(item.bridge)}"
    what = {leftovers.PORT: "port", leftovers.NOTE: "note of port", leftovers.LIMITS: "limits of port"}[item.kind]
    whose = f"container {plain(item.container_id)[:16]}, {plain(item.interface)}, network {plain(item.network)}"
    return f"{what} {plain(item.name)} ({whose})"
