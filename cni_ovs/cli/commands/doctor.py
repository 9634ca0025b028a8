"""`cni-ovs doctor`: what is wrong, and what to do."""

from __future__ import annotations

import os

import click

from .. import options, output, targets
from ..configurations.source import FOLDERS
from ..doctor import diagnosis
from ..doctor.checks import CHECKS
from ..doctor.examination import examine, exit_code
from ..doctor.machine import PLUGIN_FOLDERS, Machine
from ..failure import Failure


@click.command()
@click.argument("target", type=options.TargetName(), required=False)
@options.db
@click.option(
    "--bin-dir",
    "bin_dirs",
    multiple=True,
    type=options.FOLDER,
    help="Folder with CNI plugins; repeatable.  [default: "
    + ", ".join(PLUGIN_FOLDERS)
    + ", and what containerd's configuration says]",
)
@click.option(
    "--conf-dir",
    "conf_dirs",
    multiple=True,
    type=options.FOLDER,
    help="Folder with network configurations; repeatable.  [default: " + ", ".join(FOLDERS) + "]",
)
@click.option("--probe", is_flag=True, help="With TARGET: send its gateways one ping each. Else nothing is sent.")
@click.option("-v", "--verbose", is_flag=True, help="Print every check, notes, and each of many alike.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    target: str | None,
    db: str,
    bin_dirs: tuple[str, ...],
    conf_dirs: tuple[str, ...],
    probe: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    r"""Look for what is wrong, and say what to do. Nothing is changed.

    It looks at Open vSwitch's daemons and bridges, at every port that cni-ovs has attached and its container, at
    uplinks, MTU and VLANs, at the addresses that host-local has given out, at the network configurations and at the
    installed plugin. What it finds is printed worst first: a fault (something does not work), a warning (something
    will not, or wastes something), a note (something to know). On a healthy machine it prints one line.

    With TARGET, a container, only what matters to this container is looked at, and in addition its addresses, its
    gateways and its dropped packets. TARGET is what it is for `cni-ovs attach`.

    \b
    Exit code: 0 healthy, 3 warnings, 4 faults, 1 it could not do its work.

    \b
    Examples:
      cni-ovs doctor               what is wrong on this machine
      cni-ovs doctor web --probe   why has "web" no network
      cni-ovs doctor --json        for a program
    """
    if os.geteuid() != 0:
        raise Failure("the doctor looks into the namespaces of containers, which needs root", "run it as root")
    if probe and target is None:
        raise click.UsageError("--probe needs a TARGET")
    machine = Machine(
        db,
        conf_dirs or FOLDERS,
        bin_dirs,
        targets.find(target) if target is not None else None,
        probe,
    )
    outcomes = examine(CHECKS, machine)
    if as_json:
        output.print_json(diagnosis.as_json(outcomes, target))
    else:
        diagnosis.print_text(output.console(), outcomes, verbose=verbose, with_notes=target is not None)
    context.exit(exit_code(outcomes))
