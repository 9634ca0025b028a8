"""An Open vSwitch with DPDK, and a program of a container that speaks vhost-user: both from unpacked Debian packages.

`.tools/dpdk` has what build/setup unpacks of them. Installed, the first would replace the machine's ovs-vswitchd.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.namespace import Namespace
from tests.support.openvswitch import Daemon, PrivateOpenVSwitch
from tests.support.plugin import REPOSITORY

ROOT = REPOSITORY / ".tools/dpdk"
SWITCH = ROOT / "usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
TESTPMD = ROOT / "usr/bin/dpdk-testpmd"
_LIBRARIES = ROOT / "usr/lib/x86_64-linux-gnu"
# By bare names: DPDK takes drivers from no path below a folder that everybody can write to, as /tmp.
_DRIVERS = tuple(f"librte_{name}.so.23" for name in ("bus_vdev", "mempool_ring", "net_virtio"))
# Without huge pages, which a test cannot expect, and without real devices. Memory that is not legacy needs huge pages.
_MODEST = ("--no-huge", "--no-pci", "--no-telemetry", *(word for name in _DRIVERS for word in ("-d", name)))


def missing() -> str | None:
    """Says what is not there, else None."""
    absent = [path for path in (SWITCH, TESTPMD, *(_LIBRARIES / name for name in _DRIVERS)) if not path.exists()]
    if not absent:
        with open("/proc/cpuinfo") as file:
            return None if "sse4_2" in file.read() else "the processor has no SSE4.2, which DPDK needs"
    return f"no {absent[0]}: build/setup --tests"


def _environment(runtime: Path) -> list[str | Path]:
    return ["env", f"LD_LIBRARY_PATH={_LIBRARIES}", f"RUNTIME_DIRECTORY={runtime}"]


class DpdkOpenVSwitch(PrivateOpenVSwitch):
    """A private Open vSwitch with DPDK."""

    def __init__(self) -> None:
        """As the base class; nothing is started yet."""
        super().__init__()
        program = self.folder / "ovs-vswitchd"  # the name of its control socket follows from that of the program
        program.symlink_to(SWITCH)
        self.ovs_vswitchd = Daemon(
            self.namespace.command(
                *_environment(self.folder),
                *(program, self.remote, f"--pidfile={self.folder}/ovs-vswitchd.pid"),
                *(f"--log-file={self.folder}/ovs-vswitchd.log", "-vconsole:off"),
            ),
            self.folder,
        )

    def start(self) -> None:
        """Starts both daemons, DPDK on, and waits until they answer."""
        self.start_ovsdb_server()
        extra = " ".join([*_MODEST, "--legacy-mem", "-m", "256", "--file-prefix", "ovs"])
        settings = {
            "dpdk-init": "true",
            "dpdk-extra": f'"{extra}"',
            "per-port-memory": "true",  # what all ports share would be most of a gigabyte
            "pmd-maxsleep": "1000",  # microseconds; a thread that polls without a pause takes a whole core
        }
        words = [f"other_config:{key}={value}" for key, value in settings.items()]
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", *words)
        self.start_ovs_vswitchd()


def start_testpmd(
    sandbox: Namespace, folder: Path, socket: str, *, server: bool, mac: str, mode: tuple[str, ...] = ("icmpecho",)
) -> subprocess.Popen[str]:
    """Starts a DPDK program in a container, with one virtio device.

    Args:
        sandbox: the container.
        folder: for its run-time files.
        socket: of the vhost-user port.
        server: whether it makes the socket, and does not connect to it.
        mac: of its device.
        mode: what it does with packets (--forward-mode), and options for that. It answers ARP and echo requests for any
            address, if nothing else is said.
    """
    device = f"net_virtio_user0,path={socket},mac={mac}" + (",server=1" if server else "")
    words: list[str] = [*_MODEST, "-m", "128", "-l", "0,1", "--file-prefix", f"testpmd-{mac[-2:]}", f"--vdev={device}"]
    options = (
        f"--forward-mode={mode[0]}",
        "--total-num-mbufs=2048",
        "--auto-start",
        "--no-lsc-interrupt",
        "--stats-period=3600",
        *mode[1:],
    )
    with open(folder / "testpmd.out", "ab") as out:
        return sandbox.start(*_environment(folder), TESTPMD, *words, "--", *options, stdout=out)
