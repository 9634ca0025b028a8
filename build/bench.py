"""What build/bench runs: see there."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from cni_ovs import __version__  # noqa: E402 - the path had to be set first
from cni_ovs.plugin import netns  # noqa: E402
from tests.support.namespace import Namespace  # noqa: E402
from tests.support.openvswitch import PrivateOpenVSwitch  # noqa: E402
from tests.support.processes import run  # noqa: E402

BRIDGE = "br-bench"
COMMANDS = ("ADD", "DEL")


class Plugin:
    """A plugin to be timed, and its configuration."""

    def __init__(self, name: str, program: Path, config: dict[str, object], folder: Path) -> None:
        """Writes the configuration into `folder`, to be its stdin."""
        self.name = name
        self.program = program
        self.stdin = folder / f"{program.parent.name}-{program.name}.json"
        self.stdin.write_text(json.dumps({"cniVersion": "1.0.0", "name": "bench", **config}))
        self.seconds: dict[str, list[float]] = {command: [] for command in COMMANDS}
        self.cpu: dict[str, list[float]] = {command: [] for command in COMMANDS}

    def run(self, host: netns.Namespace, sandbox: Namespace, command: str, *, count: bool) -> None:
        """One process from start to end, in the host's namespace."""
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "bench",
            "CNI_NETNS": sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/usr/lib/cni",
        }
        with open(self.stdin, "rb") as stdin, tempfile.TemporaryFile() as stdout:
            actions = [(os.POSIX_SPAWN_DUP2, stdin.fileno(), 0), (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1)]
            with host:
                started = time.perf_counter()
                pid = os.posix_spawn(self.program, [str(self.program)], environment, file_actions=actions)
                _, status, usage = os.wait4(pid, 0)
                seconds = time.perf_counter() - started
            if status != 0:
                stdout.seek(0)
                raise SystemExit(f"{self.program} {command} failed: {stdout.read().decode()}")
        if count:
            self.seconds[command].append(seconds)
            self.cpu[command].append(usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="build/bench", description="times ADD and DEL as whole processes")
    parser.add_argument("--runs", type=int, default=40, help="counted runs of each cell (default 40)")
    runs = parser.parse_args().runs
    openvswitch = PrivateOpenVSwitch()
    sandbox = Namespace()
    try:
        openvswitch.start()
        openvswitch.add_bridge(BRIDGE)
        host = netns.Namespace(openvswitch.namespace.path)
        with tempfile.TemporaryDirectory() as folder:
            ours = {"type": "ovs", "bridge": BRIDGE, "socket_file": openvswitch.remote}
            theirs = {"type": "bridge", "bridge": "lbr-bench"}
            plugins = [
                Plugin("ovs, one folder", TOP / "dist/ovs.d/ovs", ours, Path(folder)),
                Plugin("ovs, one file", TOP / "dist/ovs", ours, Path(folder)),
                Plugin("bridge (CNI project)", Path("/usr/lib/cni/bridge"), theirs, Path(folder)),
            ]
            for number in range(runs + 3):  # the first ones warm up, and do not count
                for plugin in plugins:
                    for command in COMMANDS:
                        plugin.run(host, sandbox, command, count=number >= 3)
    finally:
        sandbox.delete()
        openvswitch.stop()
    report(plugins, runs)


def report(plugins: list[Plugin], runs: int) -> None:
    """The table, and what is needed to compare it with another."""
    version = run(["ovs-vswitchd", "--version"]).stdout.split()[3]
    print(
        f"{datetime.date.today()}: cni-ovs {__version__}, Open vSwitch {version} (userspace datapath), Linux "
        f"{platform.release()}, {os.cpu_count()} cores; no IPAM, medians of {runs} runs in turn"
    )
    print(f"{'':24}{'ADD ms':>9}{'min':>8}{'CPU ms':>9}   {'DEL ms':>9}{'min':>8}{'CPU ms':>9}")
    for plugin in plugins:
        cells = [
            f"{median(plugin.seconds[command]) * 1e3:9.1f}{min(plugin.seconds[command]) * 1e3:8.1f}"
            f"{median(plugin.cpu[command]) * 1e3:9.1f}"
            for command in COMMANDS
        ]
        print(f"{plugin.name:24}{'   '.join(cells)}")


if __name__ == "__main__":
    main()
