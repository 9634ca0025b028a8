"""stdin, stdout, stderr and signals: what runtimes do with them."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.node import Node
from tests.support.processes import wait_for


@pytest.mark.contract(1)
def test_a_closed_stderr_does_not_matter(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    wrapper = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    assert node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper).ok().result["interfaces"]
    node.plugin.run(pod.environment("DEL"), pod.config, wrapper=wrapper).silent()
    node.assert_nothing_left()


@pytest.mark.contract(1, 14)
def test_a_closed_stdout_is_a_failure_that_leaves_nothing(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    outcome = node.plugin.run(pod.environment("ADD"), pod.config, wrapper=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert outcome.exit_code == 1
    node.assert_nothing_left()


@pytest.mark.contract(8)
def test_a_stderr_that_nobody_reads_cannot_keep_us(node: Node) -> None:
    """It is a pipe with room for 64 KiB, and the IPAM plugin writes five times as much before it answers."""
    ipam = node.scripted_ipam(ADD=f"head -c 300000 /dev/zero >&2\n{node.scripted_ipam().answer('10.77.0.2/24')}")
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder), timeout=5)
    read, write = os.pipe()
    try:
        with open(node.folder / "stdin", "w+b") as stdin:
            stdin.write(str(pod.config).replace("'", '"').encode())
            stdin.seek(0)
            process = subprocess.Popen(
                node.host.command(*node.plugin.target.command),
                env=pod.environment("ADD"),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=write,
            )
        stdout, _ = process.communicate(timeout=10)
        assert process.returncode == 0, stdout
    finally:
        os.close(read)
        os.close(write)
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(8)
@pytest.mark.one_target
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_undoes_what_was_done(node: Node, number: signal.Signals) -> None:
    ipam = node.scripted_ipam(ADD="sleep 300")
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder), timeout=20)
    adding = pod.start("ADD")
    wait_for("the IPAM plugin runs", lambda: ipam.calls == ["ADD"])
    adding.signal(number)
    outcome = adding.wait(10)
    outcome.error(11)
    node.assert_nothing_left()
