"""`cni-ovs explain`: what ADD would do."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from cni_ovs.plugin.config import lookup
from cni_ovs.plugin.forms import is_utf8

from .. import options, output
from ..configurations import files as configurations
from ..configurations import report
from ..failure import Failure, one_line
from ..rehearsal.explanation import Explanation, Step, explain
from ..rehearsal.ovsdb_text import operation_text
from ..rehearsal.rehearsal import Request

_PLACES = ("host", "container")


@click.command(short_help="Show what ADD would do with a configuration, and change nothing.")
@click.argument("conf", type=options.Configuration())
@click.option("--ifname", default="eth0", show_default=True, help="CNI_IFNAME: the interface in the container.")
@click.option("--container", default="example", show_default=True, metavar="ID", help="CNI_CONTAINERID.")
@click.option("--netns", metavar="PATH", help="CNI_NETNS; it need not exist.  [default: /run/netns/ID]")
@click.option("--mac", metavar="MAC", help="MAC that the runtime asks for.")
@click.option("--args", "cni_args", default="", metavar="K=V;…", help="CNI_ARGS, as OvnPort=… or K8S_POD_NAME=….")
@click.option(
    "--cni-path",
    default="/opt/cni/bin",
    envvar="CNI_PATH",
    show_default=True,
    show_envvar=True,
    help="Folders of IPAM plugins.",
)
@click.option("--offline", is_flag=True, help="Ask no Open vSwitch; pretend one that has the bridge.")
@click.option("--datapath", type=click.Choice(["system", "netdev"]), help="Datapath type of a pretended bridge.")
@click.option("--raw", is_flag=True, help="Print transactions as the JSON that is sent.")
@options.as_json
@options.db
@click.pass_context
def command(
    ctx: click.Context,
    conf: str,
    ifname: str,
    container: str,
    netns: str | None,
    mac: str | None,
    cni_args: str,
    cni_path: str,
    offline: bool,
    datapath: str | None,
    raw: bool,
    as_json: bool,
    db: str,
) -> None:
    r"""Show what ADD would do with a network configuration, and change nothing.

    CONF is a file (.conf, .conflist, or YAML with a NetworkAttachmentDefinition), the name of a network of this node,
    or - for stdin. Everything that is wrong with it is told first, with line and column. Of a list, the plugins of type
    ovs are explained.

    The plugin's own code is rehearsed: in two empty network namespaces that vanish with it, and in front of Open
    vSwitch, which is asked, and tries each change out without keeping it. So what is printed is what ADD sends:
    transactions to ovsdb-server, commands in the words of ip(8), tc(8) and ovs-ofctl(8), and the result.

    \b
      host:       done in the host's network namespace
      container:  done in the container's
      CONTAINER   stands for that namespace within a command

    IPAM is not asked, because it would give out an address.

    --db is where ADD finds Open vSwitch, if CONF does not say (socket_file); given here, it replaces that.

    \b
    Examples:
      cni-ovs explain /etc/cni/net.d/10-net.conflist
      cni-ovs explain net.conf --container 3f2a --ifname net1 --raw
      cni-ovs explain - --offline --datapath netdev --json < net.conf
    """
    for text in (container, ifname, netns, mac, cni_args, cni_path):
        if text is not None and not is_utf8(text):
            raise click.UsageError(f"{text!r} is not UTF-8")
    source = ctx.get_parameter_source("db")
    explanations = []
    configuration = configurations.meant(conf)
    problems = configurations.problems_of(configuration.source)  # all of them: ADD tells of the first one
    if not as_json:
        report.tell(problems, output.console(to_stderr=True))
    for values in configuration.ours():
        # A flat file of the node's may say where Open vSwitch is, so the default is left to the plugin.
        fills = source == ParameterSource.ENVIRONMENT and lookup(values, "socket_file") is None
        given = _with(values, db if fills or source == ParameterSource.COMMANDLINE else None, mac)
        pretended = (datapath or "") if offline else None
        request = Request(given, container, ifname, netns or f"/run/netns/{container}", cni_args, pretended)
        explanations.append(explain(request, cni_path, datapath or ""))
    if as_json:
        attachments = [explanation.as_json() for explanation in explanations]
        output.print_json({"problems": [problem.as_json() for problem in problems], "attachments": attachments})
    else:
        for explanation in explanations:
            _print(output.console(), explanation, raw=raw)
    for explanation in explanations:
        if explanation.error is not None:
            raise Failure(explanation.error["msg"], explanation.error["details"])


def _with(values: dict[str, Any], db: str | None, mac: str | None) -> dict[str, Any]:
    """A configuration with what the command line says."""
    if db is not None:
        values = {**{key: value for key, value in values.items() if key.lower() != "socket_file"}, "socket_file": db}
    if mac is not None:
        asked = lookup(values, "runtimeConfig")
        values = {**values, "runtimeConfig": {**(asked if isinstance(asked, dict) else {}), "mac": mac}}
    return values


def _print(console: Console, explanation: Explanation, *, raw: bool) -> None:
    request = explanation.request
    if explanation.network:
        head = f"ADD of {request.ifname} to container {request.container_id}, network {explanation.network}"
        _line(console, head, style="bold")
        _line(console, f"port {explanation.port} on bridge {explanation.bridge}; nothing of this is done")
    if explanation.pretended and explanation.steps:
        why = "As things are, ADD fails, as the last lines say. " if explanation.error else ""
        said = f"{why}The steps are for an Open vSwitch that is pretended: it has the bridge, and nothing else."
        _line(console, said, style="yellow")
    for number, step in enumerate(explanation.steps, 1):
        console.print()
        _line(console, step.sentence, head=f"{number:2}. ", style="bold")
        _print_step(console, step, raw=raw)
    if explanation.result is not None:
        console.print()
        _line(console, "The result that ADD prints:", style="bold")
        _print_json(console, explanation.result)
    for title, texts in (("Notes", explanation.notes), ("Warnings", explanation.warnings)):
        if texts:
            console.print()
            _line(console, f"{title}:", style="bold")
        for text in texts:
            _line(console, text, head="  - ")
    console.print()


def _print_step(console: Console, step: Step, *, raw: bool) -> None:
    place = None
    for record in step.records:
        if record["kind"] == "transaction":
            if raw:
                _print_json(console, ["Open_vSwitch", *record["operations"]])
                continue
            for operation in record["operations"]:
                what, text = operation_text(operation)
                _line(console, text, head=f"    {what} ", style="green" if record["changes"] else "")
        elif record["kind"] == "log":
            _line(console, record["text"], head="    (log) ", style="dim")
        elif record["kind"] == "file":
            _line(console, f"{record['path']}: {record['content']}", head="    ")
        else:
            if record.get("namespace") in _PLACES and record["namespace"] != place:
                place = record["namespace"]
                _line(console, f"{place}:", head="    ")
            _line(console, record["text"], head="      " if place else "    ", style="cyan")


def _line(console: Console, text: str, head: str = "", style: str = "") -> None:
    """Print a text behind a head, its further lines indented."""
    room = max(20, console.width - len(head))
    wrapped = textwrap.wrap(one_line(text), room, break_on_hyphens=False) if console.is_terminal else [one_line(text)]
    for number, line in enumerate(wrapped or [""]):
        console.print(Text((head if number == 0 else " " * len(head)) + line, style), soft_wrap=True)


def _print_json(console: Console, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=True)
    if console.is_terminal:
        console.print(Syntax(text, "json", background_color="default", word_wrap=True))
    else:
        click.echo(text)
