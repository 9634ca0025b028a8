"""What is installed: the plugin in the runtimes' folders, and what the one-file program cni-ovs needs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .. import installed
from ..examination import Check
from ..machine import PLUGIN_FOLDERS, Machine
from ..problems import FAULT, NOTE, WARNING, Finding, Problem, Skip
from .configurations import is_ours_wanted

_NEEDED = 64 << 20  # bytes that the one-file program unpacks, and rather more
_YOUNG = 60.0  # seconds that such a program may take to start
_MEGABYTE = 1 << 20
_MOST_FILES = 10_000  # of one folder, for its size

# The installer is no command of the machine: it is beside the plugin that it installs.
_INSTALL = "./cni-ovs-install {folder}"
_HOW = "restart the installer's pod on this node, or, in the folder that has plugin and installer:"
_ANEW = f"install it anew: {_HOW}"
PLUGIN_MISSING = Problem(
    "plugin_missing",
    FAULT,
    "the plugin ovs is not in {folders}",
    "it is not installed, or in another folder than the runtime's",
    f"install it into the runtime's folder (bin_dir in its configuration): {_HOW}",
    _INSTALL,
)
PLUGIN_ELSEWHERE = Problem(
    "plugin_elsewhere",
    WARNING,
    "containerd looks for plugins in {folders}, and ovs is not there but at {path}",
    "it was installed into another folder than `bin_dir` in containerd's configuration",
    f"if containerd is to attach pods, install it there: {_HOW}",
    _INSTALL,
)
PLUGIN_LINK_BROKEN = Problem(
    "plugin_link_broken",
    FAULT,
    "{path} is a link that leads nowhere ({link})",
    "somebody removed the version that it is a link to",
    remedy=_ANEW,
    command=_INSTALL,
)
PLUGIN_NOT_EXECUTABLE = Problem(
    "plugin_not_executable",
    FAULT,
    "{path} is not executable",
    "it was copied without its mode",
    command="chmod 0755 {path}",
)
PLUGIN_NOEXEC = Problem(
    "plugin_noexec",
    FAULT,
    "{path} cannot be executed: its file system is mounted noexec",
    "the folder is on a file system for data",
    "mount it with exec, or let the runtime use another folder",
)
PLUGIN_FOREIGN_MACHINE = Problem(
    "plugin_foreign_machine",
    FAULT,
    "{path} is for {wanted}, and this machine is {own}",
    "it was built on another kind of machine",
    "install the plugin that was built for {own}",
)
PLUGIN_GLIBC = Problem(
    "plugin_glibc",
    FAULT,
    "{path} does not start: it needs {glibc}, and the C library here is older",
    "it was built on a newer distribution (our own plugin is static, and needs none)",
    f"install a plugin that needs no newer C library, as that of cni-ovs: {_HOW}",
    _INSTALL,
)
PLUGIN_DOES_NOT_START = Problem(
    "plugin_does_not_start",
    FAULT,
    "{path} does not start: {reason}",
    "the words behind the colon are its own, or the kernel's",
    _ANEW,
    _INSTALL,
)
PLUGIN_OF_OTHERS = Problem(
    "plugin_of_others",
    WARNING,
    "{path} is not the plugin of cni-ovs",
    "ovs-cni's plugin has the same name; it takes other keys, and does not know all of ours",
    f"if pods are to be attached by cni-ovs, install it there: {_HOW}",
    _INSTALL,
)
PLUGIN_DAMAGED = Problem(
    "plugin_damaged",
    WARNING,
    "{path} was changed since it was installed",
    "a disk fault, or somebody wrote into it",
    remedy=_ANEW,
    command=_INSTALL,
)
PLUGIN_VERSIONS = Problem(
    "plugin_versions",
    WARNING,
    "different versions of the plugin are installed: {versions}",
    "one folder was forgotten in an update",
    "install the newer one into both folders",
)
TEMPORARY_NOEXEC = Problem(
    "temporary_noexec",
    NOTE,
    "the temporary folder {folder} is mounted noexec: a one-file cni-ovs cannot start there",
    "a hardened machine; the plugin itself needs no temporary folder",
    "give it another one when you call it: TMPDIR=/run cni-ovs …",
)
TEMPORARY_FULL = Problem(
    "temporary_full",
    WARNING,
    "the temporary folder {folder} has {free} MB left: a one-file cni-ovs may not start",
    "something has filled it",
    "make room, or give it another one when you call it: TMPDIR=/run cni-ovs …",
)
UNPACKED_STALE = Problem(
    "unpacked_stale",
    WARNING,
    "{path} ({size} MB) is left of a one-file program that was killed",
    "such a program (cni-ovs may be one) unpacks itself, and removes that when it ends by itself",
    command="rm -r {path}",
)


def plugin(machine: Machine) -> Iterator[Finding]:
    """The plugin is there, and starts."""
    folders = machine.plugin_folders
    paths = [os.path.join(folder, "ovs") for folder in folders]
    there = [path for path in paths if os.path.lexists(path)]
    if not there:
        if not is_ours_wanted(machine):
            raise Skip("no network configuration needs it")
        folder = next(iter([*machine.containerd_folders, *folders]), PLUGIN_FOLDERS[0])
        yield PLUGIN_MISSING.found(folders=", ".join(folders) or "any folder", folder=folder)
    for path in there:
        yield from _start(path)
    read = machine.containerd_folders
    if there and read and is_ours_wanted(machine) and not any(os.path.dirname(path) in read for path in there):
        yield PLUGIN_ELSEWHERE.found(folders=", ".join(read), path=there[0], folder=read[0])


def versions(machine: Machine) -> Iterator[Finding]:
    """It is ours, unchanged, and the same in all folders."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for folder in machine.plugin_folders:
        path = os.path.join(folder, "ovs")
        if os.path.realpath(path) in seen or not os.access(path, os.X_OK) or not os.path.isfile(path):
            continue
        seen.add(os.path.realpath(path))
        if not installed.answers(installed.ask(path, CNI_COMMAND="VERSION")):
            continue  # that is told by another check
        version = installed.version(path)
        if version is None:
            yield PLUGIN_OF_OTHERS.found(path=path, folder=folder)
            continue
        found[folder] = version
        if installed.is_damaged(Path(path)):
            yield PLUGIN_DAMAGED.found(path=path, folder=folder)
    if not seen:
        raise Skip("the plugin is in no folder")
    if len(set(found.values())) > 1:
        yield PLUGIN_VERSIONS.found(versions=", ".join(f"{version} in {folder}" for folder, version in found.items()))


def temporary(machine: Machine) -> Iterator[Finding]:
    """The one-file program can unpack itself."""
    del machine
    folder = _temporary()
    status = os.statvfs(folder)
    if status.f_flag & os.ST_NOEXEC:
        yield TEMPORARY_NOEXEC.found(folder=folder)
    free = status.f_bavail * status.f_frsize
    if free < _NEEDED or (status.f_files and not status.f_favail):
        yield TEMPORARY_FULL.found(folder=folder, free=free // _MEGABYTE)


def unpacked(machine: Machine) -> Iterator[Finding]:
    """Nothing is left of one-file programs that are gone."""
    del machine
    own = os.path.realpath(getattr(sys, "_MEIPASS", "/"))
    found = [
        path
        for path in sorted(Path(_temporary()).glob("_MEI*"))
        if path.is_dir() and not path.is_symlink() and os.path.realpath(path) != own and _age(path) > _YOUNG
    ]
    used = _mapped() if found else ""
    for path in found:
        if f"{path}/" not in used and _age(path) > _YOUNG:
            yield UNPACKED_STALE.found(path=str(path), size=_size(path) // _MEGABYTE)


def _start(path: str) -> Iterator[Finding]:
    """Why a plugin does not start."""
    folder = os.path.dirname(path)
    if not os.path.exists(path):
        yield PLUGIN_LINK_BROKEN.found(path=path, link=os.readlink(path), folder=folder)
        return
    # Not os.access(): noexec refuses that too.
    if not os.path.isfile(path) or not os.stat(path).st_mode & 0o111:
        yield PLUGIN_NOT_EXECUTABLE.found(path=path)
        return
    if installed.is_on_noexec(path):
        yield PLUGIN_NOEXEC.found(path=path)
        return
    answer = installed.ask(path, CNI_COMMAND="VERSION")
    if installed.answers(answer):
        return
    foreign, glibc = installed.foreign_machine(path), installed.missing_glibc(answer)
    if foreign:
        yield PLUGIN_FOREIGN_MACHINE.found(path=path, wanted=foreign, own=os.uname().machine)
    elif glibc:
        yield PLUGIN_GLIBC.found(path=path, glibc=glibc, folder=folder)
    else:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        reason = answer.error or (said[0] if said else f"exit code {answer.code}")
        yield PLUGIN_DOES_NOT_START.found(path=path, reason=reason, folder=folder)


def _temporary() -> str:
    """The folder in which the program unpacks itself, in the order of PyInstaller's bootloader."""
    named = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    return next((folder for folder in (*named, "/tmp", "/var/tmp") if folder and os.path.isdir(folder)), "/tmp")


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _mapped() -> str:
    """What all processes have mapped, those that are unpacked among it: they have their libraries from there."""
    texts = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            texts.append(maps.read_text(errors="replace"))
        except OSError:  # it has ended
            continue
    return "".join(texts)


def _size(path: Path) -> int:
    total = 0
    for number, (folder, _, names) in enumerate(os.walk(path)):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
        if number > _MOST_FILES:
            break
    return total


CHECKS = (
    Check(
        "plugin",
        "the plugin ovs, and that it starts",
        plugin,
        (
            *(PLUGIN_MISSING, PLUGIN_LINK_BROKEN, PLUGIN_NOT_EXECUTABLE, PLUGIN_NOEXEC, PLUGIN_FOREIGN_MACHINE),
            *(PLUGIN_GLIBC, PLUGIN_DOES_NOT_START, PLUGIN_ELSEWHERE),
        ),
        of_target=False,
    ),
    Check(
        "plugin_versions",
        "the plugin's maker and version",
        versions,
        (PLUGIN_OF_OTHERS, PLUGIN_DAMAGED, PLUGIN_VERSIONS),
        of_target=False,
    ),
    Check(
        "temporary",
        "the temporary folder",
        temporary,
        (TEMPORARY_FULL, TEMPORARY_NOEXEC),
        of_target=False,
    ),
    Check("unpacked", "leftovers of one-file programs", unpacked, (UNPACKED_STALE,), of_target=False),
)
