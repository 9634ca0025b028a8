"""The catalogue of faults: each breaks the world around one command of the plugin, and mends it afterwards.

`FAULTS` has them in the order of docs/faults.md; tests/fault/test_fault_table.py goes through it. Each is a generator:
it breaks, yields while the command runs, and mends. What has to happen in the middle of a command it gives to
`Scene.during`, or to the IPAM plugin (`Scene.ipam_does`).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ipam import ScriptedIpam, cni_path
from tests.support.node import Node
from tests.support.openvswitch import Daemon
from tests.support.plugin import Outcome
from tests.support.processes import run, wait_for

TIMEOUT = 2  # seconds, of nearly every attachment here
PAUSE = 1  # seconds that something stands still which goes on then
ALL = ("ADD", "CHECK", "DEL", "GC", "STATUS")


class Scene:
    """An attachment of one kind, its IPAM plugin (host-local behind a script), and the node it is on.

    Attributes:
        wrapper: a command line put before the plugin's.
        during: called while the command runs.
        kept: what is there afterwards and should be, in words.
    """

    def __init__(self, node: Node, kind: str) -> None:
        """Attaches nothing yet."""
        self.node = node
        self.ipam = ScriptedIpam(node.folder / secrets.token_hex(4))
        self.pod = node.attachment(
            interface_type=kind,
            ipam={**node.host_local(), "type": self.ipam.type},
            cni_path=str(self.ipam.folder),
            timeout=TIMEOUT,
        )
        self.wrapper: tuple[str, ...] = ()
        self.during: Callable[[], None] | None = None
        self.kept = ""
        self._netns = self.pod.netns
        self.ipam_does()

    def ipam_does(self, script: str = "", command: str = "ADD", *, work: bool = True) -> None:
        """Lets the IPAM plugin run a piece of shell in a command, and unless told otherwise do its work after it."""
        records = self.ipam.folder / f"{self.ipam.type}.records"
        actions = {
            name: f"exec '{cni_path('1.1.0')}/host-local' < {shlex.quote(str(records / name))}.stdin" for name in ALL
        }
        if script:
            actions[command] = f"{{\n{script}\n}} >&2\n{actions[command]}" if work else script
        self.ipam.act(**actions)

    def run(self, command: str) -> Outcome:
        """Runs a command as a runtime would."""
        if command == "GC":
            return self.pod.gc(**{"cni.dev/valid-attachments": []})
        if command == "STATUS":
            return self.pod.status()
        pod = self.pod
        running = pod.plugin.start(pod.environment(command), pod.stdin(command), wrapper=self.wrapper)
        if self.during is not None:
            self.during()
        outcome = running.wait()
        if command == "ADD" and outcome.exit_code == 0:
            pod.result = outcome.result
        return outcome

    def when_the_port_is_there(self, action: Callable[[], object]) -> Iterator[None]:
        """Does something while ADD waits for its port: ovs-vswitchd stands still until then, and goes on after it."""
        daemon = self.node.openvswitch.ovs_vswitchd

        def act() -> None:
            wait_for("the port's rows are there", self.node.ports)
            action()
            daemon.thaw()

        daemon.freeze()
        self.during = act
        yield
        daemon.thaw()

    def general(self, text: str) -> str:
        """A message without what is different in each run."""
        names = {
            self.node.openvswitch.remote: "unix:/run/openvswitch/db.sock",
            self._netns: "/run/netns/pod",
            self.pod.netns: "/run/netns/pod",
            self.node.bridge: "br-cni",
            f"{self.node.address_files}/{self.node.network}": "/var/lib/cni/networks/net",
            str(self.ipam.folder): "/opt/cni/bin",
            str(self.node.folder): "/tmp",
            str(self.node.openvswitch.folder): "/etc/openvswitch",
        }
        for name, general in names.items():
            text = text.replace(name, general) if name else text
        text = re.sub(r"process \d+", "process 4711", text)
        text = re.sub(r"\bcni[0-9a-f]{12}\b", "cni0123456789ab", text)
        return re.sub(r"\b10\.10\.\d+\.\d+", "10.10.0.2", text)


@dataclass(frozen=True)
class Fault:
    """One fault: its title, the commands that meet it, and the context manager that brings it about."""

    title: str
    commands: tuple[str, ...]
    enter: Callable[[Scene], AbstractContextManager[None]]


FAULTS: list[Fault] = []


def fault(
    title: str, *commands: str
) -> Callable[[Callable[[Scene], Iterator[None]]], Callable[[Scene], Iterator[None]]]:
    """Puts the decorated generator function into the catalogue; ADD is the default command."""

    def add(function: Callable[[Scene], Iterator[None]]) -> Callable[[Scene], Iterator[None]]:
        FAULTS.append(Fault(title, commands or ("ADD",), contextlib.contextmanager(function)))
        return function

    return add


def _paused(daemon: Daemon) -> Iterator[None]:
    daemon.freeze()
    timer = threading.Timer(PAUSE, daemon.thaw)
    timer.start()
    yield
    timer.join()


def _taken_by_another(scene: Scene) -> Iterator[None]:
    """The path of the namespace, which is gone, names that of another container, which nothing happens to."""
    sandbox = scene.pod.sandbox
    run(["ip", "netns", "add", sandbox.name])
    other = scene.node.attached(sandbox=sandbox, ifname=scene.pod.ifname, ipam=scene.node.host_local())
    yield
    other.check().silent()
    other.delete().silent()


def _restart_database(scene: Scene) -> None:
    scene.node.openvswitch.ovsdb_server.kill()
    scene.node.openvswitch.start_ovsdb_server(alone=True)  # ovs-vswitchd stands still


# Open vSwitch


@fault("ovsdb-server is not there", *ALL)
def _(scene: Scene) -> Iterator[None]:
    scene.node.openvswitch.ovsdb_server.kill()
    yield
    scene.node.openvswitch.start_ovsdb_server()


@fault("ovsdb-server stands still", *ALL)
def _(scene: Scene) -> Iterator[None]:
    scene.node.openvswitch.ovsdb_server.freeze()
    yield
    scene.node.openvswitch.ovsdb_server.thaw()


@fault(f"ovsdb-server stands still for {PAUSE} s", "ADD", "CHECK", "DEL", "GC")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.config["timeout"] = 5
    yield from _paused(scene.node.openvswitch.ovsdb_server)


@fault("ovsdb-server is killed during ADD")
def _(scene: Scene) -> Iterator[None]:
    server = scene.node.openvswitch.ovsdb_server
    yield from scene.when_the_port_is_there(server.kill)
    scene.node.openvswitch.start_ovsdb_server()


@fault("ovsdb-server is restarted during ADD")
def _(scene: Scene) -> Iterator[None]:
    yield from scene.when_the_port_is_there(lambda: _restart_database(scene))


@fault("the disk of the database is full", "ADD", "DEL")
def _(scene: Scene) -> Iterator[None]:
    switch = scene.node.openvswitch
    database, disk = switch.folder / "conf.db", switch.folder / "disk"
    switch.ovsdb_server.stop()
    disk.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk])
    try:
        database.rename(disk.with_name("conf.db.before"))
        run(["cp", disk.with_name("conf.db.before"), disk / "conf.db"])
        database.symlink_to(disk / "conf.db")
        switch.start_ovsdb_server()
        _fill(disk)
        # There is room in the last page of the database's file.
        for size in (500, 50, 5):
            while switch.succeeds("set", "Open_vSwitch", ".", f"external_ids:filler={secrets.token_hex(size)}"):
                pass
        yield
        (disk / "filler").unlink()
        switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", "external_ids:disk=free")
        switch.ovsdb_server.stop()
        database.unlink()
        run(["cp", disk / "conf.db", database])
        switch.start_ovsdb_server()
    finally:
        run(["umount", "--lazy", disk])


@fault("ovs-vswitchd is not there", *ALL)
def _(scene: Scene) -> Iterator[None]:
    scene.node.openvswitch.ovs_vswitchd.kill()
    yield
    scene.node.openvswitch.start_ovs_vswitchd()


@fault("ovs-vswitchd stands still", *ALL)
def _(scene: Scene) -> Iterator[None]:
    scene.node.openvswitch.ovs_vswitchd.freeze()
    yield
    scene.node.openvswitch.ovs_vswitchd.thaw()


@fault(f"ovs-vswitchd stands still for {PAUSE} s", "ADD", "CHECK", "DEL", "GC")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.config["timeout"] = 5
    yield from _paused(scene.node.openvswitch.ovs_vswitchd)


@fault("ovs-vswitchd is killed during ADD")
def _(scene: Scene) -> Iterator[None]:
    yield from scene.when_the_port_is_there(scene.node.openvswitch.ovs_vswitchd.kill)
    scene.node.openvswitch.start_ovs_vswitchd()


@fault("ovs-vswitchd is killed during ADD and started again")
def _(scene: Scene) -> Iterator[None]:
    def restart() -> None:
        scene.node.openvswitch.ovs_vswitchd.kill()
        scene.node.openvswitch.start_ovs_vswitchd()

    scene.pod.config["timeout"] = 10
    yield from scene.when_the_port_is_there(restart)


@fault("the bridge does not exist", *ALL)
def _(scene: Scene) -> Iterator[None]:
    scene.node.openvswitch.delete_bridge(scene.node.bridge)
    yield
    scene.node.openvswitch.add_bridge(scene.node.bridge)


@fault("the bridge is removed during ADD")
def _(scene: Scene) -> Iterator[None]:
    yield from scene.when_the_port_is_there(lambda: scene.node.openvswitch.delete_bridges([scene.node.bridge]))
    scene.node.openvswitch.add_bridge(scene.node.bridge)


@fault("the port is removed during ADD")
def _(scene: Scene) -> Iterator[None]:
    switch = scene.node.openvswitch
    yield from scene.when_the_port_is_there(
        lambda: switch.vsctl("--no-wait", "del-port", scene.node.ports()[0]["name"])
    )


@fault("ovs-vswitchd cannot make the bridge (its datapath is missing)", "ADD", "STATUS")
def _(scene: Scene) -> Iterator[None]:
    switch, name = scene.node.openvswitch, scene.node.bridge
    switch.delete_bridge(name)
    switch.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=missing", check=False)
    yield
    switch.vsctl("--no-wait", "del-br", name)
    switch.add_bridge(name)


# The container


@fault("the namespace does not exist", "ADD", "CHECK", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.sandbox.delete()
    yield


@fault("CNI_NETNS is a file that is no namespace", "ADD", "CHECK", "DEL")
def _(scene: Scene) -> Iterator[None]:
    path = scene.node.folder / "regular"
    path.write_text("")
    scene.pod.netns = str(path)
    yield
    scene.pod.netns = scene.pod.sandbox.path


@fault("the namespace is removed during ADD")
def _(scene: Scene) -> Iterator[None]:
    scene.ipam_does('ip netns delete "$(basename "$CNI_NETNS")"')
    yield


@fault("the device is removed in the container during ADD")
def _(scene: Scene) -> Iterator[None]:
    # When ADD has done with it all that it does before there is an address.
    inside = 'nsenter --net="$CNI_NETNS" ip'
    up = f"{inside} -o link show dev net1 up 2> /dev/null | grep -q ."
    scene.ipam_does(f"until {up}; do sleep 0.01; done\n{inside} link delete net1")
    yield


@fault("the namespace has a device of that name", "ADD")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "peer")
    yield
    scene.pod.sandbox.ip("link", "delete", "net1")


@fault("the namespace's path is another container's now", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.sandbox.delete()
    yield from _taken_by_another(scene)


# Reboots


@fault("the node was rebooted", "DEL", "GC")
def _(scene: Scene) -> Iterator[None]:
    scene.node.reboot(scene.pod)
    yield


@fault("the node was rebooted, and CNI_NETNS is empty", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.node.reboot(scene.pod)
    scene.pod.netns = ""
    yield


@fault("the node was rebooted, and the namespace's path is another container's now", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.node.reboot(scene.pod)
    yield from _taken_by_another(scene)


# IPAM


@fault("the IPAM plugin is missing", "ADD", "CHECK", "DEL")
def _(scene: Scene) -> Iterator[None]:
    hidden = scene.ipam.folder / "hidden"
    (scene.ipam.folder / scene.ipam.type).rename(hidden)
    yield
    hidden.rename(scene.ipam.folder / scene.ipam.type)


@fault("the IPAM plugin may not be executed", "ADD", "DEL")
def _(scene: Scene) -> Iterator[None]:
    (scene.ipam.folder / scene.ipam.type).chmod(0o644)
    yield
    (scene.ipam.folder / scene.ipam.type).chmod(0o755)


def _ipam_fault(title: str, script: str, *commands: str) -> None:
    for command in commands or ("ADD",):

        def enter(scene: Scene, command: str = command) -> Iterator[None]:
            scene.ipam_does(script, command, work=False)
            yield
            scene.ipam_does()

        fault(title, command)(enter)


_ipam_fault("the IPAM plugin hangs", "sleep 300", "ADD", "DEL")
_ipam_fault("the IPAM plugin prints rubbish", "echo 'panic: {\"ips'", "ADD", "DEL")
_ipam_fault("the IPAM plugin prints 3 MB", "head -c 3000000 /dev/zero | tr '\\0' x", "ADD", "DEL")
_ipam_fault("the IPAM plugin prints without end", "yes", "ADD", "DEL")
_ipam_fault("the IPAM plugin is killed", "kill -9 $$", "ADD", "DEL")
_ipam_fault("the IPAM plugin fails without a word", "exit 3", "ADD", "DEL")
_ipam_fault("the IPAM plugin refuses", ScriptedIpam.refuse(117, "no more addresses"), "ADD", "DEL")
_ipam_fault("the IPAM plugin gives no address", ScriptedIpam.answer())
_ipam_fault("the IPAM plugin gives an address of wrong form", ScriptedIpam.answer("10.77.0.300/24"))
_ipam_fault("the IPAM plugin gives an address that the kernel refuses", ScriptedIpam.answer("::/64"))
_ipam_fault(
    "the IPAM plugin gives a route that the kernel refuses",
    ScriptedIpam.answer("10.77.0.2/24", routes=[{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}]),
)


@fault("the IPAM plugin leaves a child that holds its stdout", "ADD", "DEL")
def _(scene: Scene) -> Iterator[None]:
    pidfile = scene.ipam.folder / "child"
    start = f"setsid sleep 20 & echo $! > {pidfile}"
    real = f"{cni_path('1.1.0')}/host-local"
    records = scene.ipam.folder / f"{scene.ipam.type}.records"
    scene.ipam.act(**{command: f"{start}\n{real} < {records}/{command}.stdin" for command in ("ADD", "DEL")})
    yield
    scene.ipam_does()
    outcome = scene.pod.delete().silent()
    assert outcome.seconds < 1, "DEL has waited for what an IPAM plugin has left"
    scene.node.host.run("kill", pidfile.read_text().strip())
    scene.kept = "nothing, after a DEL that does not wait for the child"


@fault("the disk of the IPAM plugin is full")
def _(scene: Scene) -> Iterator[None]:
    folder = scene.node.address_files
    folder.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder])
    try:
        (folder / scene.node.network).mkdir()
        (folder / scene.node.network / "lock").touch()
        _fill(folder)
        yield
    finally:
        run(["umount", "--lazy", folder])


# The node


@fault("the temporary folder is full, read-only, and may not hold programs", "ADD", "DEL")
def _(scene: Scene) -> Iterator[None]:
    run(["mount", "-t", "tmpfs", "-o", "size=4k,ro,noexec", "tmpfs", scene.node.temporary])
    try:
        yield
    finally:
        run(["umount", "--lazy", scene.node.temporary])


@fault("there are too few file descriptors", "ADD", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.wrapper = ("prlimit", "--nofile=8")
    yield
    scene.wrapper = ()


@fault("a signal (SIGTERM) comes during ADD")
def _(scene: Scene) -> Iterator[None]:
    pids: list[int] = []
    scene.ipam_does("sleep 20")

    def terminate() -> None:
        wait_for("the IPAM plugin runs", lambda: scene.ipam.calls)
        pids.append(scene.ipam.pid("ADD"))
        parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        scene.node.host.run("kill", str(parent))

    scene.during = terminate
    yield
    scene.ipam_does()


@fault("ADD was killed (SIGKILL) while its IPAM plugin was at work", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.delete().silent()
    scene.pod.result = None
    before = len(scene.ipam.calls)
    scene.ipam_does("sleep 0.5")
    running = scene.pod.start("ADD")
    wait_for("the port's rows are there", scene.node.ports)
    wait_for("the IPAM plugin runs", lambda: len(scene.ipam.calls) > before)
    running.signal(signal.SIGKILL)
    running.wait()
    yield


# Two at once


@fault("another ADD of the same container is at work")
def _(scene: Scene) -> Iterator[None]:
    go_on = scene.ipam.folder / "go-on"
    scene.ipam_does(f"until [ -e {go_on} ]; do sleep 0.01; done")
    scene.pod.config["timeout"] = 10
    first = scene.pod.start("ADD")
    wait_for("the port's rows are there", scene.node.ports)
    yield
    go_on.touch()
    scene.pod.result = first.wait().result
    scene.pod.check().silent()
    scene.kept = "what the other has attached"


@fault("a DEL of the same container comes during ADD")
def _(scene: Scene) -> Iterator[None]:
    def delete() -> None:
        wait_for("the port's rows are there", scene.node.ports)
        scene.pod.delete().silent()

    scene.ipam_does("sleep 0.5")
    scene.during = delete
    yield
    scene.node.assert_nothing_left()
    scene.kept = "nothing: DEL has waited for the end of ADD"


@fault("an ADD of the same container is at work", "DEL")
def _(scene: Scene) -> Iterator[None]:
    scene.pod.delete().silent()
    scene.pod.result = None
    scene.ipam_does("sleep 0.5")
    running = scene.pod.start("ADD")
    wait_for("the port's rows are there", scene.node.ports)
    yield
    running.wait().ok()


def _fill(folder: Path) -> None:
    """Writes until there is no room any more."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
