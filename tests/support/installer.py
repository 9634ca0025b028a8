"""The installer in a folder laid out as in the container image, and what it made of a folder of plugins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.support.plugin import REPOSITORY, TARGETS
from tests.support.processes import run

INSTALLER = "cni-ovs-install"

# Answers as the plugin does, and is quickly copied: for tests in which the installer alone matters.
_STAND_IN = """#!/bin/sh
case ${CNI_COMMAND:-} in
    VERSION) echo '{"supportedVersions": []}' ;;
    *) echo 'CNI ovs plugin (cni-ovs) 1.2.3, CNI protocol versions supported: none' >&2 ;;
esac
"""
MIRROR_PLUGINS = ("ovs-mirror-producer", "ovs-mirror-consumer")


def image(folder: Path, *, stand_in: bool = False) -> Path:
    """Lays out a folder as /opt/cni-ovs is in the image: the plugin, or a stand-in for it."""
    folder.mkdir()
    if stand_in:
        (folder / "ovs").write_text(_STAND_IN)
        (folder / "ovs").chmod(0o755)
    else:
        shutil.copy2(TARGETS["frozen"].command[0], folder / "ovs")
    shutil.copy2(REPOSITORY / "build" / INSTALLER, folder)
    return folder


def another(source: Path, folder: Path) -> Path:
    """Copies an image, with a plugin of different content that works all the same, as after an update."""
    shutil.copytree(source, folder, symlinks=True)
    with (folder / "ovs").open("ab") as program:
        program.write(b"\n")
    return folder


def install(source: Path, destination: Path, *wrapper: str | Path) -> str:
    """Runs the installer of an image, with a command line before it, if any; the name of the version then linked."""
    run([*wrapper, source / INSTALLER, destination])
    return linked(destination)


def linked(destination: Path) -> str:
    """The version that `ovs` is; AssertionError when it is not a link as it should be."""
    version, _, program = os.readlink(destination / "ovs").partition("/")
    assert version.startswith(".ovs-") and program == "ovs"
    return version


def answers(program: Path) -> bool:
    """True when the plugin starts and answers VERSION; AssertionError when it fails."""
    environment = {"CNI_COMMAND": "VERSION", "TMPDIR": str(program.parent.parent)}
    return "supportedVersions" in run([program], stdin="{}", env=environment).stdout


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not, but the links of the plugins for mirrors."""
    return sorted(path.name for path in folder.iterdir() if path.name not in MIRROR_PLUGINS)


def age(version: Path, *, minutes: float) -> None:
    """Makes it that long ago that a version was replaced."""
    then = version.stat().st_mtime - minutes * 60
    os.utime(version, (then, then))


def stopped_while_starting(program: Path) -> subprocess.Popen[str]:
    """Starts the plugin and stops it (SIGSTOP) before its interpreter has begun: it still has to open itself."""
    for _ in range(200):
        process = subprocess.Popen(
            [program],
            env={"CNI_COMMAND": "VERSION", "TMPDIR": str(program.parent.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.send_signal(signal.SIGSTOP)
        while (state := _state(process.pid)) not in ("T", "Z"):
            time.sleep(0.001)
        if state == "T" and _resident_bytes(process.pid) < 2_000_000:  # 7 million later
            return process
        process.kill()
        process.communicate(timeout=5)
    raise AssertionError("the plugin has always started before it could be stopped")


def goes_on(process: subprocess.Popen[str]) -> None:
    """Lets a stopped plugin go on; AssertionError unless it answers."""
    process.send_signal(signal.SIGCONT)
    stdout, _ = process.communicate(timeout=10)
    assert process.returncode == 0 and "supportedVersions" in stdout


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
