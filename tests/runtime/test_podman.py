"""A container's life under podman 4 with its CNI back end, which converts results to 0.4.0 and detaches from its cache.

podman runs inside the namespace that plays the host, with its storage, state and networks in the test's folder. Where
libcni, runc and podman have names of the machine built in, they meet private folders of a mount namespace.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import PrivateMounts, install_plugin
from tests.support import ipam
from tests.support.node import Node
from tests.support.plugin import PATH, Json
from tests.support.processes import run, wait_for

BUSYBOX = Path("/bin/busybox")
NEEDED = ("podman", "conmon", "runc")
CGROUPS = Path("/sys/fs/cgroup")
RUNROOT = "/run/containers/storage"  # in the private /run; podman allows it 50 bytes
READY = "ready"


class Podman:
    """podman on a node, with one network."""

    def __init__(self, node: Node, mounts: PrivateMounts, folder: Path) -> None:
        """`folder` takes all that it writes."""
        self.node = node
        self._mounts = mounts
        self._folder = folder
        self._networks = folder / "net.d"
        self._networks.mkdir()
        self._group = f"cniovs-{secrets.token_hex(4)}"
        plugins = folder / "cni-bin"
        install_plugin(node.plugin.target, plugins)
        self._rootfs = folder / "rootfs"
        (self._rootfs / "bin").mkdir(parents=True)
        shutil.copy2(BUSYBOX, self._rootfs / "bin/busybox")
        self._settings = folder / "containers.conf"
        self._settings.write_text(
            "[containers]\n"
            # Without CAP_SYS_RESOURCE the limits that podman sets by default cannot be raised.
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            "[network]\n"
            'network_backend = "cni"\n'
            f'network_config_dir = "{self._networks}"\n'
            f'cni_plugin_dirs = ["{plugins}", "{ipam.DEBIAN}"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "none"\n'
            'lock_type = "file"\n'
            'runtime = "runc"\n'
            'tmp_dir = "/run/libpod"\n'
            f'volume_path = "{folder}/volumes"\n'
        )

    def network(self, plugin: Json) -> None:
        """Makes it the network of the containers."""
        network = {"cniVersion": "1.0.0", "name": self.node.network, "plugins": [plugin]}
        (self._networks / "10-network.conflist").write_text(json.dumps(network))

    def command(self, *words: str | Path) -> list[str]:
        """The command line of podman with these words."""
        storage = ("--root", self._folder / "root", "--runroot", RUNROOT, "--storage-driver", "vfs")
        variables = ("env", "-i", f"PATH={PATH}", f"CONTAINERS_CONF={self._settings}", f"TMPDIR={self._folder}")
        return self.node.host.command(*self._mounts.command(*variables, "podman", *storage, *words))

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs podman to its end."""
        return run(self.command(*words), check=check)

    def container(self, name: str, *argv: str) -> tuple[str | Path, ...]:
        """The words with which podman runs `argv` in a new container, in the foreground."""
        options = ("--rm", "--name", name, "--network", self.node.network, "--cgroup-parent", f"/{self._group}")
        return ("run", *options, "--rootfs", self._rootfs, *argv)

    def stop(self) -> None:
        """Ends and removes all containers, and the control groups."""
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        wait_for("podman's helpers have ended", lambda: not self.node.strangers())
        for group in sorted(CGROUPS.glob(f"**/{self._group}/**/"), reverse=True):
            group.rmdir()


@pytest.fixture
def podman(node: Node, tmp_path: Path) -> Iterator[Podman]:
    """A podman with the CNI back end, and a busybox root file system."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or not BUSYBOX.is_file():
        pytest.skip(f"not installed: {', '.join(missing) or 'busybox-static'}")
    version = run(["podman", "--version"]).stdout.split()[-1]
    if not version.startswith("4."):
        pytest.skip(f"podman {version} has no CNI back end; 4 has")
    mounts = PrivateMounts("/run", "/var/lib")
    try:
        made = Podman(node, mounts, tmp_path)
        try:
            yield made
        finally:
            made.stop()
    finally:
        mounts.close()


@pytest.mark.parametrize("interface_type", ["veth", "internal"])
def test_a_container_of_podman_reaches_another_attachment_and_leaves_nothing_at_its_end(
    podman: Podman, node: Node, interface_type: str
) -> None:
    config = node.config(ipam=node.host_local("10.50.0.0/24", "fd00:50::/64"), interface_type=interface_type)
    podman.network(config)
    peer = node.attached(ipam=config["ipam"], cniVersion="1.0.0")

    name = f"box-{secrets.token_hex(4)}"
    wait = f"/bin/busybox ip addr show eth0; /bin/busybox echo {READY}; exec /bin/busybox sleep 60"
    process = subprocess.Popen(
        podman.command(*podman.container(name, "/bin/busybox", "sh", "-c", wait)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        while READY not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth0")
        assert node.openvswitch.row("Interface", port["name"])["type"] == interface_type.replace("veth", "")
        own = set(node.addresses_given_out()) - set(peer.addresses)
        assert len(own) == 2
        for address in own:
            assert f" {address}/" in printed
            assert peer.sandbox.pings(address)
        for address in peer.addresses:
            podman.run("exec", name, "/bin/busybox", "ping", "-c", "1", "-W", "5", address)
        podman.run("kill", name)
        process.wait(20)
    finally:
        process.kill()
        process.communicate(timeout=10)

    wait_for("podman's helpers have ended", lambda: not node.strangers())
    node.assert_nothing_left(keep=[peer])
    peer.delete().silent()
    node.assert_nothing_left()
