"""A container's whole life under containerd: `ctr run --cni` attaches it with this plugin and detaches it at its end.

containerd runs from a private configuration inside the namespace that plays the host. `ctr` has the names
`/etc/cni/net.d` and `/opt/cni/bin` built in, and containerd's shim has `/run/containerd`; so both run in a mount
namespace where these folders are private ones.
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
from tests.support.plugin import Json
from tests.support.processes import alive, run, wait_for

BUSYBOX = Path("/bin/busybox")
ADDRESS = "/run/containerd/containerd.sock"  # in the private /run; the name of a socket has at most 107 bytes
NEEDED = ("containerd", "ctr", "runc")
# What a container prints when its process runs, followed by a wait for its end.
READY = "ready"
WAIT = ("/bin/busybox", "sh", "-c", f"/bin/busybox echo {READY}; exec /bin/busybox sleep 60")


class Containerd:
    """A private containerd on a node, and containers in it."""

    def __init__(self, node: Node, mounts: PrivateMounts, folder: Path) -> None:
        """Starts it; `folder` takes all that it writes."""
        self.node = node
        self._mounts = mounts
        self.rootfs = folder / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy2(BUSYBOX, self.rootfs / "bin/busybox")
        self._log = folder / "containerd.log"
        config = folder / "config.toml"
        config.write_text(
            "version = 2\n"
            f'root = "{folder}/root"\n'
            f'state = "{folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{ADDRESS}"\n'
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                node.host.command(*mounts.command("containerd", "--config", config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        node.helper(self._process.pid)
        install_plugin(node.plugin.target, mounts.path("/opt/cni/bin"))

    def wait_until_it_answers(self) -> None:
        """Returns when its socket answers."""
        wait_for("containerd answers", self._answers, timeout=20)

    def _answers(self) -> bool:
        assert alive(self._process.pid), self._log.read_text()
        return self.ctr("version", check=False).returncode == 0

    def network(self, plugin: Json, *cni_path: str) -> None:
        """Makes it the network of all containers; the plugins of the folders are put beside ours."""
        self._mounts.path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)
        network = {"cniVersion": "1.0.0", "name": self.node.network, "plugins": [plugin]}
        self._mounts.path("/etc/cni/net.d/10-network.conflist").write_text(json.dumps(network))
        for folder in cni_path:
            for program in Path(folder).iterdir():
                if program.is_file():
                    shutil.copy2(program, self._mounts.path("/opt/cni/bin"))

    def command(self, *words: str | Path) -> list[str]:
        """The command line of ctr with these words."""
        return self.node.host.command(*self._mounts.command("ctr", "--address", ADDRESS, *words))

    def ctr(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs ctr to its end."""
        return run(self.command(*words), check=check)

    def run_words(self, name: str, *argv: str) -> tuple[str | Path, ...]:
        """The words with which ctr runs `argv` in a new container, in the foreground."""
        # The empty --cgroup: no parent group is left behind on the machine.
        return ("run", "--rm", "--cni", "--cgroup", "", "--rootfs", self.rootfs, name, *argv)

    def remove_containers(self) -> None:
        """Ends and removes what containers there are."""
        for name in self.ctr("containers", "list", "--quiet").stdout.split():
            self.ctr("tasks", "delete", "--force", name, check=False)
            self.ctr("containers", "delete", name)

    def stop(self) -> None:
        """Ends all containers, then containerd."""
        if alive(self._process.pid):
            self.remove_containers()
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


@pytest.fixture
def containerd(node: Node, tmp_path: Path) -> Iterator[Containerd]:
    """A private containerd with a busybox root file system."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or not BUSYBOX.is_file():
        pytest.skip(f"not installed: {', '.join(missing) or 'busybox-static'}")
    mounts = PrivateMounts("/etc", "/opt", "/run", "/var/lib")
    try:
        made = Containerd(node, mounts, tmp_path)
        try:
            made.wait_until_it_answers()
            yield made
        finally:
            made.stop()
    finally:
        mounts.close()


@pytest.fixture
def name() -> str:
    """A name for a container, and its full id as ctr tells it to CNI."""
    return f"box-{secrets.token_hex(4)}"


def test_a_container_of_containerd_reaches_another_attachment_and_leaves_nothing_at_its_end(
    containerd: Containerd, node: Node, name: str
) -> None:
    config = node.config(ipam=node.host_local("10.40.0.0/24", "fd00:40::/64"), vlan=40)
    containerd.network(config, ipam.DEBIAN)
    peer = node.attached(ipam=config["ipam"], vlan=40, cniVersion="1.0.0")

    process = subprocess.Popen(
        containerd.command(*containerd.run_words(name, *WAIT)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY
        (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth0")
        assert port["external_ids"]["contID"] == f"default-{name}"
        assert port["tag"] == 40
        inside = ("tasks", "exec", "--exec-id", secrets.token_hex(4), name, "/bin/busybox")
        for address in peer.addresses:
            containerd.ctr(*inside, "ping", "-c", "1", "-W", "5", address)
        own = set(node.addresses_given_out()) - set(peer.addresses)
        assert len(own) == 2
        for address in own:
            assert peer.sandbox.pings(address)
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", name)
        process.wait(20)
    finally:
        process.kill()
        process.communicate(timeout=10)

    node.assert_nothing_left(keep=[peer])
    peer.delete().silent()
    node.assert_nothing_left()


def test_the_del_after_a_containers_end_comes_without_a_namespace_and_removes_everything(
    containerd: Containerd, node: Node, name: str
) -> None:
    scripted = node.scripted_ipam()
    containerd.network(node.config(ipam=scripted.config), str(scripted.folder))
    done = containerd.ctr(*containerd.run_words(name, "/bin/busybox", "ip", "addr", "show", "eth0"))
    assert "inet 10.77.0.2/24" in done.stdout
    assert scripted.calls == ["ADD", "DEL"]
    assert scripted.environment("DEL").get("CNI_NETNS", "") == ""
    node.assert_nothing_left()


def test_a_container_that_cannot_be_attached_does_not_start_and_the_reason_is_shown(
    containerd: Containerd, node: Node, name: str
) -> None:
    containerd.network(node.config(bridge="br-missing"))
    done = containerd.ctr(*containerd.run_words(name, "/bin/busybox", "echo", "started"), check=False)
    assert done.returncode != 0
    assert "started" not in done.stdout
    assert "br-missing" in done.stderr
    containerd.remove_containers()  # ctr leaves the container behind that it could not start
    wait_for("its shim has ended", lambda: not node.strangers())
    node.assert_nothing_left()
