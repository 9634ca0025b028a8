"""The plugins that are measured, their configurations, and which versions they are."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cni_ovs import __version__

TOP = Path(__file__).resolve().parents[2]
TOOLS = TOP / ".tools/bin"
DEBIAN = Path("/usr/lib/cni")
INSTALLER = TOP / "build/cni-ovs-install"
OVS_CNI = TOOLS / "ovs-cni"  # build/bench builds it, where there is Go

PEERS = ("ovs-cni", "bridge")
IPAMS = ("none", "host-local")
SUBNET = "10.77.0.0/16"  # each bridge has this one, and nobody else on it
RESPONDER = "10.77.0.1"
STATIC = "10.77.0.2/16"  # what the harness gives a container when there is no IPAM
FIRST, LAST = "10.77.1.0", "10.77.254.255"  # what host-local gives out

_DESCRIBE = ["git", "-C", str(TOP), "describe", "--always", "--dirty", "--tags"]


@dataclass(frozen=True)
class Plugin:
    """One program in the comparison."""

    name: str
    program: Path
    settings: Mapping[str, Any]  # its part of the network configuration
    ours: bool = False
    on_ovs: bool = True

    @property
    def network(self) -> str:
        """The name of the network, which is good for a folder too."""
        return "bench-" + re.sub(r"\W+", "-", self.name)

    def stdin(self, ipam: str, folder: Path, result: bytes | None = None) -> bytes:
        """The network configuration with this IPAM; `result` is ADD's, for DEL, as libcni adds it."""
        config = {"cniVersion": "1.0.0", "name": self.network, **self.settings}
        if ipam == "host-local":
            ranges = [[{"subnet": SUBNET, "rangeStart": FIRST, "rangeEnd": LAST, "gateway": RESPONDER}]]
            routes = [{"dst": "0.0.0.0/0"}]
            config["ipam"] = {"type": ipam, "dataDir": str(folder), "ranges": ranges, "routes": routes}
        if result:
            config["prevResult"] = json.loads(result)
        return json.dumps(config).encode()

    def copied(self, folder: Path) -> Plugin:
        """The same plugin, in a folder of its own below this one."""
        target = folder / self.network
        target.mkdir(parents=True)
        shutil.copy2(self.program, target)
        return replace(self, program=target / self.program.name)

    def installed(self, folder: Path) -> Plugin:
        """The same plugin, as the installer puts it there: a link into a folder of its version."""
        target = folder / self.network
        subprocess.run([INSTALLER, "--from", self.program.parent, target], check=True, stdout=subprocess.DEVNULL)
        return replace(self, program=target / self.program.name)

    def bytes_on_disk(self) -> int:
        """The size of everything that has to be installed; for a copied or installed one."""
        files = [path for path in self.program.parent.rglob("*") if path.is_file() and not path.is_symlink()]
        return sum(path.stat().st_size for path in files)


def environment(
    command: str, container_id: str, sandbox: str, ifname: str, temporary: Path, cni_path: Path
) -> dict[str, str]:
    """What a runtime puts into the environment."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TMPDIR": str(temporary),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": sandbox,
        "CNI_IFNAME": ifname,
        "CNI_PATH": str(cni_path),
    }


def ipam_folder() -> Path:
    """Where host-local is: the newest one where build/setup could build it, else Debian's."""
    return TOOLS if (TOOLS / "host-local").is_file() else DEBIAN


def copy_ipam(folder: Path) -> None:
    """Copies host-local there, for CNI_PATH."""
    folder.mkdir()
    shutil.copy2(ipam_folder() / "host-local", folder)


def copy_plugins(dist: Path, folder: Path, bridge: str, remote: str, linux_bridge: str) -> list[Plugin]:
    """Every plugin of the comparison that is there, as a copy in `folder`: somebody may build while we measure."""
    ovs = {"type": "ovs", "bridge": bridge, "socket_file": remote}
    plugins = [
        Plugin("ovs, copied", dist / "ovs", ovs, ours=True),
        Plugin("ovs-cni", OVS_CNI, ovs),
        Plugin("bridge", DEBIAN / "bridge", {"type": "bridge", "bridge": linux_bridge}, on_ovs=False),
    ]
    installed = Plugin("ovs, installed", dist / "ovs", ovs, ours=True).installed(folder)
    return [installed, *(plugin.copied(folder) for plugin in plugins if plugin.ours or plugin.program.is_file())]


def versions(dist: Path) -> dict[str, str]:
    """What has to be known to compare one run with another. What is not there is left out."""
    known = dist.resolve() == (TOP / "dist").resolve()  # of another folder nobody knows how it came about
    found = {
        "cni-ovs": __version__,
        "commit": _first(_DESCRIBE) if known else "",
        "Python": platform.python_version() if known else "",
        "PyInstaller": _first([str(TOP / ".venv/bin/pyinstaller"), "--version"]) if known else "",
        "Open vSwitch": _first(["ovs-vswitchd", "--version"]).rpartition(" ")[2],
        "ovs-cni": _built_from(OVS_CNI, r"^\s+mod\s+\S+/ovs-cni\s+(\S+)"),
        "Go": _built_from(OVS_CNI, r": (go\S+)"),
        "bridge": _package("containernetworking-plugins"),
        "host-local": _built_from(ipam_folder() / "host-local", r"^\s+mod\s+\S+/plugins\s+(\S+)"),
    }
    return {name: version for name, version in found.items() if version}


def machine() -> dict[str, Any]:
    """The machine, as far as it matters."""
    return {"cores": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine()}


def _built_from(program: Path, pattern: str) -> str:
    """What Go wrote into a program that it built."""
    match = re.search(pattern, _output(["go", "version", "-m", str(program)]), re.MULTILINE)
    return match[1] if match else ""


def _package(name: str) -> str:
    return _first(["dpkg-query", "--show", "--showformat=${Version}", name])


def _first(command: list[str]) -> str:
    return _output(command).partition("\n")[0].strip()


def _output(command: list[str]) -> str:
    """What a program prints; nothing when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
