"""How much TCP moves between two attachments, by iperf3."""

from __future__ import annotations

import json

from tests.support.plugin import Attachment
from tests.support.processes import wait_for


def mbits(server: Attachment, client: Attachment, *words: str, seconds: int = 1) -> float:
    """Mbit/s from client to server within some seconds; `words` are further options of the client."""
    listening = server.sandbox.start("iperf3", "-s", "-1", "-p", "5201")
    try:
        wait_for("iperf3 listens", lambda: "5201" in server.sandbox.run("ss", "-Hltn").stdout)
        address = server.addresses[0]
        out = client.sandbox.run(
            "iperf3", "-c", address, "-p", "5201", "-t", str(seconds), "-J", *words, timeout=30, check=False
        )
        assert out.returncode == 0, out.stdout[-500:]
        return float(json.loads(out.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6
    finally:
        listening.kill()
        listening.communicate(timeout=5)
