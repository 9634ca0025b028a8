"""`cni-ovs validate`: what is wrong in network configurations."""

from __future__ import annotations

import click

from .. import options, output
from ..configurations import files as configurations
from ..configurations import report, source
from ..configurations.source import Problem
from ..failure import Failure


@click.command(short_help="Find all mistakes in network configurations.")
@click.argument("paths", nargs=-1, type=options.FILE, metavar="[FILE|FOLDER|-]...")
@options.conf_dirs
@options.as_json
def command(paths: tuple[str, ...], conf_dirs: tuple[str, ...], as_json: bool) -> None:
    r"""Find all mistakes in network configurations, before a container meets the first.

    What is looked at: files as container runtimes and Multus read them (.conf, .conflist, .json), flat files
    (ovs.d/*.conf: what all networks of a node have in common), and Kubernetes YAML, of which
    NetworkAttachmentDefinitions count. Without an argument it is what this node has, in the folders of --conf-dir.
    "-" is stdin.

    Each mistake is told with file, line and column, as compilers do. An "error" is what the plugin refuses, or a key
    that it ignores, which is seldom meant: with "vlna" a port is a trunk of all VLANs. A "warning" is for you to
    decide. Of the plugins of others in a chain only the "type" is looked at. Neither Open vSwitch nor Kubernetes is
    asked: whether the bridge is there, ADD will see (or `cni-ovs doctor`).

    Exit code: 0 if there is no error, 1 if there is one.

    \b
    Examples:
      cni-ovs validate                             what this node has
      cni-ovs validate 10-web.conflist networks/   a file, and a folder
      kubectl get net-attach-def -A -o yaml | cni-ovs validate -
    """
    names = [] if paths else configurations.in_folders(conf_dirs)
    found: list[Problem] = []
    for path in paths:
        try:
            names += configurations.files(path)
        except Failure as error:
            found.append(source.unreadable(path, error))
    names = list(dict.fromkeys(names))
    count = 0
    for name in names:
        number, problems = _examined(name)
        count += number
        found += problems
    found = list(dict.fromkeys(found))
    errors = sum(problem.severity == "error" for problem in found)
    if as_json:
        counts = {"configurations": count, "errors": errors, "warnings": len(found) - errors}
        output.print_json({"files": names, "problems": [problem.as_json() for problem in found], **counts})
    else:
        report.tell(found, output.console())
        _sum_up(len(names), count, errors, len(found) - errors)
    raise SystemExit(1 if errors else 0)


def _examined(name: str) -> tuple[int, list[Problem]]:
    """How many configurations a file has, and what is wrong in it."""
    try:
        return configurations.examined(source.read(name))
    except Failure as error:
        return 0, [source.unreadable("<stdin>" if name == source.STDIN else name, error)]


def _sum_up(files: int, count: int, errors: int, warnings: int) -> None:
    counts = [(files, "file"), (count, "network configuration"), (errors, "error"), (warnings, "warning")]
    parts = [f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts]
    click.echo(", ".join(parts), err=True)
