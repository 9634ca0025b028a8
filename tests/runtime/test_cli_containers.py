"""`cni-ovs attach` and `detach` by the names of containers: podman, Docker's API, containerd, and pods by CRI."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from tests.runtime.containerd import ADDRESS, CRICTL, Containerd
from tests.runtime.podman import Podman
from tests.support import ipam
from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import PATH
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

BUSYBOX = "/bin/busybox"
SLEEP = (BUSYBOX, "sleep", "60")
DOCKER = "/run/docker.sock"  # in the private /run


@pytest.fixture
def name() -> str:
    return f"web-{secrets.token_hex(4)}"


@pytest.fixture
def docker(podman: Podman) -> Iterator[str]:
    """The address of an API as Docker's, which podman serves."""
    process = subprocess.Popen(
        podman.command("system", "service", "--time", "0", f"unix://{DOCKER}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("the API is there", lambda: podman.mounts.path(DOCKER).exists())
        podman.node.helper(process.pid)
        yield f"unix://{DOCKER}"
    finally:
        process.terminate()
        process.wait(10)


def assert_attached_and_detached(cli: Cli, node: Node, name: str, container_id: str, *other_names: str) -> None:
    """The container that is called so gets an interface over which a peer reaches it, and loses it again."""
    peer = node.attached(ipam=ipam.static("10.1.0.9/24"))
    cli.run("attach", name, "eth1", node.bridge, "--ip", "10.1.0.2/24")
    assert peer.sandbox.pings("10.1.0.2"), cli.run("show").stdout
    (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth1")
    assert port["external_ids"]["contID"] == container_id
    assert port["external_ids"]["contName"] == name
    assert f"container {name}  eth1" in cli.run("show", name).stdout
    for other in other_names:
        assert "interface 'eth1' exists already" in cli.fails("attach", other, "eth1", node.bridge)
    cli.run("detach", name, "eth1")
    peer.delete().silent()
    assert node.ports() == []


def test_a_container_of_podman_by_its_name(podman: Podman, node: Node, name: str) -> None:
    cli = Cli(node.host, node.openvswitch.remote, *podman.mounts.command(), environment=podman.environment)
    identifier = podman.start(name, *SLEEP)
    podman.start(f"other-{name}", *SLEEP)
    assert_attached_and_detached(cli, node, name, identifier, identifier, identifier[:12])


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_container_that_was_restarted_gets_back_what_it_had(podman: Podman, node: Node, name: str, kind: str) -> None:
    cli = Cli(node.host, node.openvswitch.remote, *podman.mounts.command(), environment=podman.environment)
    podman.start(name, *SLEEP)
    peer = node.attached(ipam=ipam.static("10.1.0.9/24"))
    cli.run("attach", name, "eth1", node.bridge, "--ip", "10.1.0.2/24", "--type", kind)
    podman.run("restart", "--time", "0", name)
    assert not peer.sandbox.pings("10.1.0.2", timeout=1)
    assert "the container was restarted" in cli.run("reattach", name).stdout
    assert peer.sandbox.pings("10.1.0.2"), cli.run("show").stdout
    assert "has lost nothing" in cli.run("reattach", name).stdout
    cli.run("detach", name, "eth1")
    peer.delete().silent()
    assert node.ports() == []


def test_a_container_by_docker_s_api(podman: Podman, node: Node, docker: str, name: str) -> None:
    # The folder of podman is not in PATH, so nobody else can know the container.
    environment = {"DOCKER_HOST": docker, "PATH": "/usr/sbin:/sbin"}
    cli = Cli(node.host, node.openvswitch.remote, *podman.mounts.command(), environment=environment)
    identifier = podman.start(name, *SLEEP)
    assert_attached_and_detached(cli, node, name, identifier, identifier[:12])


def test_a_container_of_containerd(containerd: Containerd, node: Node, name: str) -> None:
    cli = Cli(node.host, node.openvswitch.remote, *containerd.mounts.command())
    containerd.start(name, *SLEEP)
    containerd.start(f"{name}-2", *SLEEP)
    assert_attached_and_detached(cli, node, name, name)


@pytest.mark.skipif(not CRICTL.is_file(), reason="no crictl: build/setup needs Go to install it")
@pytest.mark.parametrize("asked", ["ctr", "crictl"])
def test_a_pod_by_namespace_and_name(containerd: Containerd, node: Node, name: str, asked: str) -> None:
    containerd.network(node.config(ipam=node.host_local("10.50.0.0/24")), ipam.DEBIAN)
    # Where there is no containerd, as with CRI-O, crictl is asked.
    instead = {"CONTAINERD_ADDRESS": "/nonexistent", "CONTAINER_RUNTIME_ENDPOINT": f"unix://{ADDRESS}"}
    environment = {"PATH": f"{CRICTL.parent}:{PATH}", **(instead if asked == "crictl" else {})}
    cli = Cli(node.host, node.openvswitch.remote, *containerd.mounts.command(), environment=environment)
    wait_for("CRI is ready", lambda: '"NetworkReady"' in containerd.crictl("info", check=False), timeout=20)
    identifier = containerd.start_pod("kube-system", name)
    peer = node.attached(ipam=ipam.static("10.1.0.9/24"))
    cli.run("attach", f"kube-system/{name}", "eth5", node.bridge, "--ip", "10.1.0.2/24")
    assert peer.sandbox.pings("10.1.0.2"), cli.run("show").stdout
    (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth5")
    assert port["external_ids"]["contID"] == identifier
    assert (port["external_ids"]["contPodNamespace"], port["external_ids"]["contPodName"]) == ("kube-system", name)
    assert "interface 'eth5' exists already" in cli.fails("attach", identifier[:12], "eth5", node.bridge)
    cli.run("detach", name, "eth5")
    containerd.remove_pods()
    node.assert_nothing_left(keep=[peer])


def test_two_containers_of_one_name_are_listed_and_none_is_taken(containerd: Containerd, node: Node, name: str) -> None:
    cli = Cli(node.host, node.openvswitch.remote, *containerd.mounts.command())
    for number in "12":
        containerd.ctr(
            *("run", "--detach", "--cgroup", "", "--label", f"nerdctl/name={name}", "--rootfs", containerd.rootfs),
            *(f"{number}{name}", *SLEEP),
        )
    said = cli.fails("attach", name, "eth1", node.bridge)
    assert "the name of more than one container" in said
    assert f"1{name}"[:12] in said and f"2{name}"[:12] in said
    assert node.ports() == []


def test_a_runtime_that_does_not_answer_is_told_of(containerd: Containerd, node: Node, name: str) -> None:
    broken = node.folder / "bin"
    broken.mkdir()
    (broken / "podman").write_text("#!/bin/sh\necho cannot >&2\nexit 7\n")
    (broken / "podman").chmod(0o755)
    environment = {"PATH": f"{broken}:{PATH}"}
    cli = Cli(node.host, node.openvswitch.remote, *containerd.mounts.command(), environment=environment)
    assert "podman does not say which containers it runs: podman: cannot" in cli.fails("attach", name, "eth1", "br")
