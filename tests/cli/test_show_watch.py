"""`cni-ovs show` on a terminal, and `--watch`: rates that are true, ports that come and go, a clean end."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.processes import wait_for
from tests.support.world import World

pytestmark = pytest.mark.one_target


@pytest.fixture
def world(node: Node) -> World:
    return World(node)


def started(cli: Cli, *words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(cli.command(*words), env=cli.environment, text=True, **options)


@pytest.fixture
def watching(node: Node) -> Iterator[subprocess.Popen[str]]:
    """`show --json --watch` of the node's bridge; it is ended with SIGINT, as by Ctrl-C."""
    cli = Cli(node.host, node.openvswitch.remote)
    words = ("show", "--bridge", node.bridge, "--json", "--watch", "0.5")
    process = started(cli, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    node.helper(process.pid)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> Any:
    """The next line that --json --watch prints."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_watching_tells_true_rates_and_follows_ports_that_come_and_go(
    node: Node, watching: subprocess.Popen[str]
) -> None:
    first = line(watching)
    assert first["connected"] and [port["name"] for port in first["ports"]] == [node.bridge]
    pods = [node.attached(ipam=node.host_local("10.10.0.0/16"), interface_type=kind) for kind in ("veth", "internal")]
    names = [node.port(pod)["name"] for pod in pods]
    size, interval = 1000, 0.02
    words = ("ping", "-q", "-n", "-i", str(interval), "-s", str(size - 28), pods[1].addresses[0])
    pods[0].sandbox.start(*words, stdout=subprocess.DEVNULL)

    def rates() -> list[Any]:
        by_name = {port["name"]: port["rates"] for port in line(watching)["ports"]}
        return [by_name.get(name) for name in names]

    wait_for("rates of both", lambda: all(rates()))
    rates()  # the first one may have begun before the ping did
    seen = [rates() for _ in range(4)]
    for number, source in enumerate(("host", "container")):
        for way in ("in", "out"):
            mean = sum(found[number][f"{way}_bits_per_second"] for found in seen) / len(seen)
            assert mean == pytest.approx(8 * (size + 14) / interval, rel=0.25)
            packets = sum(found[number][f"{way}_packets_per_second"] for found in seen) / len(seen)
            assert packets == pytest.approx(1 / interval, rel=0.25)
        assert all(found[number]["source"] == source and found[number]["age_seconds"] == 0 for found in seen)
    pods[0].delete().silent()
    wait_for("the port has gone", lambda: names[0] not in {port["name"] for port in line(watching)["ports"]})


def test_what_only_open_vswitch_counts_has_rates_with_their_age(node: Node, watching: subprocess.Popen[str]) -> None:
    outer = node.add_bridge()
    ends = [f"pa{secrets.token_hex(3)}" for _ in range(2)]
    for bridge, name, peer in zip((node.bridge, outer), ends, ends[::-1], strict=True):
        options = ("type=patch", f"options:peer={peer}")
        node.openvswitch.vsctl("--no-wait", "add-port", bridge, name, "--", "set", "Interface", name, *options)
    near, far = (node.attached(bridge=bridge, ipam=node.host_local("10.10.0.0/16")) for bridge in (node.bridge, outer))
    near.sandbox.start("ping", "-q", "-n", "-i", "0.02", far.addresses[0], stdout=subprocess.DEVNULL)

    def rates() -> Any:
        found = [port["rates"] for port in line(watching)["ports"] if port["name"] == ends[0]]
        return found[0] if found and found[0] and found[0]["out_packets_per_second"] > 40 else None

    found = wait_for("Open vSwitch has written twice", rates, timeout=20)
    assert found["source"] == "open_vswitch"
    assert 0 <= found["age_seconds"] < 7
    assert found["in_packets_per_second"] == pytest.approx(50, rel=0.25)


def on_a_terminal(cli: Cli, *words: str, seconds: float = 0.0) -> tuple[int, str]:
    """What a command prints on a terminal of 80 columns, and its exit code; Ctrl-C is typed after some seconds."""
    control, terminal = pty.openpty()
    os.set_blocking(control, False)
    environment = {**cli.environment, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        cli.command(*words), env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    printed = b""
    end = time.monotonic() + 20
    interrupt = time.monotonic() + seconds if seconds else end
    while process.poll() is None and time.monotonic() < end:
        if time.monotonic() > interrupt:
            process.send_signal(signal.SIGINT)
            interrupt = end
        printed += read_all(control)
        time.sleep(0.02)
    printed += read_all(control)
    os.close(control)
    assert process.poll() is not None, printed
    return process.returncode, printed.decode()


def read_all(descriptor: int) -> bytes:
    found = b""
    try:
        while part := os.read(descriptor, 65536):
            found += part
    except OSError:  # nothing more now, or the other end is closed
        pass
    return found


def lines_of(text: str) -> list[str]:
    """The lines on a terminal, without what sets colours and moves the cursor."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text))


def test_a_terminal_of_80_columns_shows_all_in_colours(world: World) -> None:
    code, text = on_a_terminal(world.cli, "show")
    assert code == 0
    assert "\x1b[1;32m" in text
    assert max(map(len, lines_of(text))) <= 80
    assert "pod shop/web  eth1" in text.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[1;36m", "")


def test_watching_on_a_terminal_ends_with_ctrl_c_and_gives_the_cursor_back(world: World) -> None:
    for _ in range(30):
        world.node.openvswitch.vsctl("--no-wait", "add-port", world.outer, f"x{secrets.token_hex(5)}")
    code, text = on_a_terminal(world.cli, "show", "--bridge", world.outer, "--watch", "0.3", seconds=2.5)
    assert code == 0 and "Traceback" not in text and "Aborted" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert max(map(len, lines_of(text))) <= 80
    assert world.inside.container_id[:12] in text, "the busiest are shown"
    assert re.search(r"\d+ ports with less traffic are not shown", text)


def test_watching_goes_on_without_ovsdb_server(private_openvswitch: PrivateOpenVSwitch) -> None:
    private_openvswitch.add_bridge("br0")
    cli = Cli(private_openvswitch.namespace, private_openvswitch.remote)
    process = started(cli, "show", "--json", "--watch", "0.3", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert line(process)["connected"]
        private_openvswitch.ovsdb_server.stop()
        wait_for("it has noticed", lambda: not line(process)["connected"])
        assert line(process)["ports"]
        private_openvswitch.start_ovsdb_server()
        wait_for("it is connected again", lambda: line(process)["connected"], timeout=20)
        assert line(process)["ports"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
