"""`cni-ovs migrate`: network definitions of ovs-cni."""

from __future__ import annotations

from typing import Any

import click

from .. import options, output
from ..configurations import files as configurations
from ..configurations import migration, report, rewriting, source
from ..configurations.migration import CHANGE, DIFFERS, ERROR, Finding, Migrated
from ..configurations.source import Source
from ..failure import Failure


@click.command()
@click.argument("paths", nargs=-1, type=options.FILE, metavar="[FILE|FOLDER|-]...")
@click.option("--write", "write", is_flag=True, help="Change the files; what was there is in FILE.bak.")
@options.conf_dirs
@options.as_json
def command(paths: tuple[str, ...], write: bool, conf_dirs: tuple[str, ...], as_json: bool) -> None:
    r"""Take over network definitions of ovs-cni: tell what becomes of each key, and change what has to be changed.

    Definitions of ovs-cni work here as they are, but for a few things: what ovs-cni ignores counts here, or is refused.
    With --write these are taken out, so that a port stays what it is; nothing else in a file is touched. What is
    looked at is as for `cni-ovs validate`: configurations, flat files and NetworkAttachmentDefinitions. Kubernetes is
    not asked, and changes nothing by itself: apply what comes out.

    Each finding has file, line and column:

    \b
      change    ovs-cni ignores it; --write removes it
      differs   it works, but not quite the same
      error     it is refused here, and only you can say what is meant
      keeps     the keys that mean the same

    Exit code: 0 if there is no error, 1 if there is one.

    \b
    Examples:
      cni-ovs migrate /etc/cni/multus/net.d              what would be
      cni-ovs migrate --write /etc/cni/multus/net.d
      kubectl get net-attach-def -A -o yaml > old.yaml
      cni-ovs migrate --write - < old.yaml > new.yaml    the report is on stderr
    """
    if write and as_json and source.STDIN in paths:
        raise click.UsageError("with --write, what is on stdin is printed changed: there is no room for --json")
    names = [name for path in paths for name in configurations.files(path)] or configurations.in_folders(conf_dirs)
    entries: list[dict[str, Any]] = []
    errors = False
    for name in dict.fromkeys(names):
        try:
            text = source.read(name)
            migrated = migration.migrate(text)
            backup = _write(name, text, migrated) if write else None
        except Failure as error:
            migrated, backup = Migrated([], ""), None
            migrated.definitions.append(migration.Migration("", [], [Finding("", source.unreadable(name, error))]))
        if as_json:
            entries.append(_entry(name, migrated, backup))
        else:
            _tell(name, migrated, backup, to_stderr=write and name == source.STDIN)
        errors |= any(found.problem.severity == ERROR for one in migrated.definitions for found in one.findings)
    if as_json:
        output.print_json({"files": entries})
    raise SystemExit(1 if errors else 0)


def _write(name: str, text: Source, migrated: Migrated) -> str | None:
    """Write what has been changed; returns the path of the backup, if there is one."""
    if name == source.STDIN:
        click.echo(migrated.text, nl=False)
        return None
    return None if migrated.text == text.text else rewriting.replace(name, text, migrated.text)


def _tell(name: str, migrated: Migrated, backup: str | None, *, to_stderr: bool) -> None:
    console = output.console(to_stderr=to_stderr)
    for one in migrated.definitions:
        report.tell([found.problem for found in one.findings], console)
        if one.keeps:
            whose = f" of {one.name!r}" if one.name else ""
            keys = ", ".join(one.keeps)
            console.print(
                f"{output.plain(name)}: keeps{whose}: {output.plain(keys)}", soft_wrap=not console.is_terminal
            )
    if backup:
        console.print(
            f"{output.plain(name)}: written; before: {output.plain(backup)}", soft_wrap=not console.is_terminal
        )


def _entry(name: str, migrated: Migrated, backup: str | None) -> dict[str, Any]:
    definitions = [
        {
            "name": one.name,
            "keeps": one.keeps,
            **{
                kind: [_finding(found) for found in one.findings if found.problem.severity == severity]
                for kind, severity in (("changes", CHANGE), ("differs", DIFFERS), ("errors", ERROR))
            },
        }
        for one in migrated.definitions
    ]
    return {"path": name, "backup": backup, "definitions": definitions}


def _finding(found: Finding) -> dict[str, Any]:
    problem = found.problem
    place = {"line": problem.line, "column": problem.column}
    return {"key": found.key, **place, "message": problem.message, "remedy": problem.remedy}
