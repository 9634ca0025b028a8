"""`cni-ovs show`: what hangs where."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click

from cni_ovs.plugin.vswitch import bridge_not_found

from .. import database, options, output, targets
from ..failure import Failure
from ..topology import dot, graph, record, svg, tree, watch
from ..topology import model as topology
from ..topology.sandboxes import Sandboxes
from ..topology.selection import Selection


@click.command()
@click.argument("target", type=options.TargetName(), required=False)
@click.option("--bridge", type=options.BridgeName(), metavar="NAME", help="Only what is on this bridge.")
@click.option("--pod", metavar="[NAMESPACE/]NAME", help="Only ports of this pod.")
@click.option("--container", metavar="NAME|ID", help="Only ports of the container of this name, or whose id begins so.")
@click.option(
    "--network",
    type=options.NetworkName(),
    metavar="NAME",
    help="Only ports of this network (`name` of its configuration).",
)
@click.option("--vlan", type=click.IntRange(0, 4094), metavar="N", help="Only ports that carry this VLAN.")
@click.option("--netns", metavar="PATH", help="Only ports into this network namespace: a path or a name.")
@click.option("--no-addresses", is_flag=True, help="Do not look into the containers. Quicker with many of them.")
@click.option(
    "--watch",
    "seconds",
    is_flag=False,
    flag_value="2",
    type=click.FloatRange(0.2, 3600),
    metavar="[SECONDS]",
    help="Show how much passes each port, again every so many seconds (2), until Ctrl-C.",
)
@click.option("--dot", "as_dot", is_flag=True, help="Print a picture as text for Graphviz.")
@click.option("--svg", "as_svg", is_flag=True, help="Print a picture as SVG, for a browser or a document.")
@click.option(
    "--output", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File for the picture."
)
@options.as_json
@options.db
def command(
    db: str,
    as_json: bool,
    as_dot: bool,
    as_svg: bool,
    file: Path | None,
    no_addresses: bool,
    seconds: float | None,
    **chosen: str | int | None,
) -> None:
    r"""Show what hangs where in Open vSwitch.

    A bridge is a switch. A port is where something is plugged in: a container (a veth pair, an internal port, a tap, a
    vhost-user socket or a VF), the host itself (internal), a network card (uplink), another bridge (patch) or another
    host (a tunnel: vxlan, geneve). An access port carries one VLAN ("VLAN 5"), a trunk several, tagged.

    Names and numbers are from Open vSwitch's database; addresses, MTU and state of a container's interface from the
    container itself. With TARGET, what it is for `cni-ovs attach`, only what is attached to that container.

    \b
    Examples:
      cni-ovs show                           everything, as a tree
      cni-ovs show web                       only the ports of one container
      cni-ovs show --pod default/web         only the ports of one pod
      cni-ovs show --vlan 5                  who is in VLAN 5
      cni-ovs show --watch                   who sends and receives how much
      cni-ovs show --svg --output net.svg    a picture
      cni-ovs show --json                    everything, for programs
    """
    forms = [name for name, is_wanted in (("--json", as_json), ("--dot", as_dot), ("--svg", as_svg)) if is_wanted]
    if len(forms) > 1:
        raise click.UsageError(f"{forms[0]} and {forms[1]} cannot both be printed.")
    if file is not None and not (as_dot or as_svg):
        raise click.UsageError("--output is for --dot and --svg.")
    if seconds is not None and (as_dot or as_svg):
        raise click.UsageError("A picture cannot be watched: --watch is for text and --json.")
    selection = Selection(**chosen)  # type: ignore[arg-type] # click has converted them
    if seconds is not None:
        _watch(db, selection, seconds, as_json=as_json, look_inside=not no_addresses)
        return
    openvswitch = database.read(db)
    if selection.bridge is not None and openvswitch.bridge(selection.bridge) is None:
        raise bridge_not_found(selection.bridge)
    host = topology.Host(None if no_addresses else Sandboxes())
    found = selection.of(openvswitch, host)
    if selection.target is not None and not found.bridges:  # nothing of that name is recorded
        namespace = targets.find(selection.target).netns
        found = replace(selection, target=None, netns=namespace).of(openvswitch, host)
    if as_json:
        output.print_json(record.topology(found))
    elif as_dot or as_svg:
        picture = graph.graph(found)
        _write(dot.dot(picture) if as_dot else svg.svg(picture), file)
    else:
        output.console().print(tree.tree(found))


def _write(picture: str, file: Path | None) -> None:
    if file is None:
        click.echo(picture, nl=False)
        return
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from error


def _watch(db: str, selection: Selection, seconds: float, *, as_json: bool, look_inside: bool) -> None:
    """Until Ctrl-C, or SIGTERM: a terminal is left as it was, with its cursor."""
    signal.signal(signal.SIGTERM, _interrupt)
    connection = database.Database(db)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            moments = watch.follow(connection, selection, seconds, look_inside=look_inside)
            if not as_json:
                watch.show(moments, output.console(), seconds)
            for moment in moments:
                output.print_json(watch.as_record(moment), indent=None)
    finally:
        connection.close()


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
