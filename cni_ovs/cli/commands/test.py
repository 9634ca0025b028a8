"""`cni-ovs test`: whether two containers reach each other, and how well."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from rich.text import Text

from cni_ovs.plugin.errors import CniError

from .. import database, options, output, targets
from ..connection import ends, matrix, triangle
from ..connection import steps as connection
from ..connection.progress import Bar
from ..connection.throughput import Options
from ..failure import Failure
from ..stopping import Stop

_STYLES = {connection.OK: "green", connection.WARNING: "yellow", connection.BAD: "red"}
_UNITS = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


class _Bandwidth(click.ParamType[int]):
    name = "bandwidth"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], _UNITS[value[-1].upper()]) if value[-1:].upper() in _UNITS else (value, 1)
        try:
            wanted = int(float(number) * unit)
        except (ValueError, OverflowError):
            wanted = 0
        if not 1_000 <= wanted <= 1_000_000_000_000:
            self.fail(f"{value!r}: must be bit/s from 1K to 1000G, such as 100M", param, ctx)
        return wanted


@click.command()
@click.argument("a", type=options.TargetName(), metavar="A", required=False)
@click.argument("b", type=options.TargetName(), metavar="B", required=False)
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="IFNAME",
    help="Which interface: once for both, or twice, for A and then for B.",
)
@click.option("--no-throughput", is_flag=True, help="Only whether they reach each other, which takes about a second.")
@click.option("-u", "--udp", "udp_only", is_flag=True, help="Measure UDP only.")
@click.option("-t", "--time", "seconds", type=click.IntRange(1, 3600), metavar="SECONDS",
              help="How long each measurement lasts.  [default: 3, with --matrix 1]")  # fmt: skip
@click.option("-P", "--parallel", type=click.IntRange(1, 128), default=1, show_default=True, metavar="N",
              help="How many streams at once.")  # fmt: skip
@click.option("-b", "--bandwidth", type=_Bandwidth(), default="100M", show_default=True, metavar="RATE",
              help="What each UDP stream sends, in bit/s; with K, M or G.")  # fmt: skip
@click.option("-p", "--port", type=click.IntRange(1, 65535), metavar="PORT",
              help="Where the receiver listens; any free port by default.")  # fmt: skip
@click.option("-R", "--reverse", is_flag=True, help="Measure from B to A instead.")
@click.option("--both", is_flag=True, help="Measure from A to B, and then from B to A.")
@click.option("--matrix", "all_pairs", is_flag=True, help="Test all pairs of attached containers, by a few pings.")
@click.option(
    "--network", type=options.NetworkName(), default="", metavar="NAME", help="--matrix: only those of this network."
)
@click.option(
    "--bridge", type=options.BridgeName(), default="", metavar="NAME", help="--matrix: only those on this bridge."
)
@click.option("--vlan", type=click.IntRange(0, 4094), metavar="VLAN",
              help="--matrix: only those in this VLAN; 0 for those in none.")  # fmt: skip
@click.option("--limit", type=click.IntRange(2, 1000), default=50, show_default=True, metavar="N",
              help="--matrix: at most so many containers.")  # fmt: skip
@click.option("--throughput", is_flag=True, help="--matrix: measure TCP too, one pair after the other.")
@options.db
@options.as_json
def command(
    a: str | None,
    b: str | None,
    interfaces: tuple[str, ...],
    no_throughput: bool,
    udp_only: bool,
    seconds: int | None,
    parallel: int,
    bandwidth: int,
    port: int | None,
    reverse: bool,
    both: bool,
    all_pairs: bool,
    network: str,
    bridge: str,
    vlan: int | None,
    limit: int,
    throughput: bool,
    db: str,
    as_json: bool,
) -> None:
    r"""Test whether two containers reach each other, and how well.

    A and B are containers, or network namespaces by name or path, or processes by number. The packets go from one
    container's interface to the other's: pings in both directions, the largest packet that passes whole (the path
    MTU), and TCP and UDP for some seconds, with iperf3 where it is installed. In the end nothing of it remains. If
    something does not work, the likely cause is told, and what to do.

    The interfaces are those by which both are attached to the same network or bridge of Open vSwitch, or else the only
    ones that have an address.

    \b
    Examples:
      cni-ovs test web db                     everything, in about eight seconds
      cni-ovs test web db --no-throughput     only whether they reach each other
      cni-ovs test web db -P 4 -t 10 --both   4 streams, 10 s, both directions
      cni-ovs test web db -u -b 1G            UDP with 1 Gbit/s
      cni-ovs test --matrix --network storage every pair of a network

    Exit code: 0 if all is good (there may be warnings), 1 if not. Of --matrix it is good that pairs in different VLANs,
    or on different bridges, do not reach each other.
    """
    if len(interfaces) > 2:
        raise click.UsageError("--interface is given once for both, or twice: for A and then for B")
    if reverse and both:
        raise click.UsageError("--reverse and --both exclude each other")
    if all_pairs:
        if a is not None or interfaces:
            raise click.UsageError("--matrix takes no containers and no interfaces: choose by --network or --bridge")
        measured = Options(parallel, seconds or 1, bandwidth, port or 0) if throughput else None
        _matrix(matrix.select(database.read(db), network, bridge, vlan, limit), measured, as_json)
    if a is None or b is None:
        raise click.UsageError("name two containers: A and B; or see --matrix")
    if network or bridge or vlan is not None or throughput:
        raise click.UsageError("--network, --bridge, --vlan and --throughput are for --matrix")
    protocols = () if no_throughput else ("udp",) if udp_only else ("tcp", "udp")
    directions = ("forward", "reverse") if both else ("reverse",) if reverse else ("forward",)
    plan = connection.Plan(protocols, directions, Options(parallel, seconds or 3, bandwidth, port or 0))
    state, unknown = _open_vswitch(db)
    pair = ends.find(targets.find(a), targets.find(b), interfaces, state)
    report = _test(*pair, plan, unknown, as_json)
    if as_json:
        output.print_json(connection.as_json(report))
    raise SystemExit(0 if report.is_good else 1)


def _matrix(selection: matrix.Selection, measured: Options | None, as_json: bool) -> NoReturn:
    if len(selection.ends) < 2:
        raise Failure(
            f"there are fewer than two attached containers to test ({len(selection.ends)})",
            "see `cni-ovs show` for what is attached where",
        )
    console = output.console()
    with Stop() as stop, Bar(console, stop, shown=not as_json) as bar:
        pairs = matrix.test(selection.ends, bar)
        if measured is not None:
            pairs = matrix.measure(pairs, measured, bar)
    answer = matrix.as_json(selection, pairs)
    if as_json:
        output.print_json(answer)
    else:
        triangle.show(console, selection, pairs)
        word, style = ("good", "bold green") if answer["good"] else ("bad", "bold red")
        console.print(Text.assemble((word, style), f": {triangle.verdict(selection, pairs)}"))
    raise SystemExit(0 if answer["good"] else 1)


def _open_vswitch(db: str) -> tuple[database.OpenVSwitch | None, str]:
    """What is in Open vSwitch; None and why, where it cannot be asked: namespaces can be tested without."""
    try:
        return database.read(db), ""
    except (CniError, Failure) as error:
        return None, str(error)


def _test(first: ends.End, second: ends.End, plan: connection.Plan, unknown: str, as_json: bool) -> connection.Report:
    console = output.console()
    with Stop() as stop, Bar(console, stop, shown=not as_json) as bar:

        def say(step: connection.Step) -> None:
            if not as_json:
                bar.say(_line(step.status, step.name, step.text))

        if not as_json:
            for letter, end in (("A", first), ("B", second)):
                bar.say(Text(f"{letter}  {_describe(end)}"))
            if unknown:
                bar.say(Text(f"without Open vSwitch: {output.plain(unknown)}", "yellow"))
            bar.say(Text())
        try:
            report = connection.test(first, second, plan, bar, say)
        except OSError as error:
            raise Failure(f"an interface or a namespace has gone meanwhile: {error.strerror or error}") from error
    if not as_json:
        _conclude(report)
    return report


def _describe(end: ends.End) -> str:
    addresses = " ".join(str(address) for address in ends.global_addresses(end.link)) or "no address"
    where = ""
    if end.bridge is not None and end.port is not None:
        where = f"  on {output.plain(end.bridge.name)}" + (f", VLAN {end.vlan}" if end.vlan else "")
    return f"{output.plain(end.name)}  {output.plain(end.ifname)}  {addresses}  MTU {end.link.mtu}{where}"


def _line(status: str, name: str, text: str) -> Text:
    return Text.assemble((f"{status:8}", _STYLES[status]), f"{name:18}", text)


def _conclude(report: connection.Report) -> None:
    console = output.console()
    console.print()
    told = set()
    for step in report.steps:
        if step.cause is not None and step.cause not in told and step.cause is not report.cause:
            console.print(_line(step.status, step.name, step.cause.text))
            console.print(Text(f"  to do: {step.cause.remedy}"))
        told.add(step.cause)
    word, style = ("good", "bold green") if report.is_good else ("bad", "bold red")
    console.print(Text.assemble((word, style), ": ", report.verdict))
    if report.cause is not None:
        if report.is_good:
            console.print(Text.assemble(("warning", "yellow"), f": {report.cause.text}"))
        console.print(Text(f"  to do: {report.cause.remedy}"))
