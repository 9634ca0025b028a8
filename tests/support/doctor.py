"""The doctor as a person calls it, on a node with a configuration, an installed plugin and an uplink of its own."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
from pathlib import Path
from typing import Any

from tests.runtime.machine import PrivateMounts
from tests.support import ipam
from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import TARGETS, Json


class Doctor:
    """`cni-ovs doctor` for a node; all that it looks at besides Open vSwitch is in `folder`."""

    def __init__(self, node: Node, folder: Path) -> None:
        """A node without faults: the network's configuration with host-local, plugins, an uplink with a carrier."""
        self.node = node
        self.configurations, self.plugins, self.temporary = (folder / name for name in ("net.d", "bin", "temporary"))
        for path in (self.configurations, self.plugins, self.temporary):
            path.mkdir()
        shutil.copy2(TARGETS["frozen"].command[0], self.plugins / "ovs")
        (self.plugins / "host-local").symlink_to(Path(ipam.cni_path("1.1.0")) / "host-local")
        self.configure("10-net.conflist", ipam=node.host_local())
        self.uplink = f"up{secrets.token_hex(3)}"
        self.other_end = f"far{self.uplink}"
        node.host.ip("link", "add", self.uplink, "up", "type", "veth", "peer", "name", self.other_end)
        node.host.ip("link", "set", self.other_end, "up")
        node.device(self.uplink)
        node.device(self.other_end)
        node.openvswitch.vsctl("add-port", node.bridge, self.uplink)
        self.cli = Cli(node.host, node.openvswitch.remote, environment={"TMPDIR": str(self.temporary)})

    def among(self, mounts: PrivateMounts, **environment: str) -> Doctor:
        """The same doctor among these mounts."""
        more = {**self.cli.environment, **environment}
        self.cli = Cli(self.node.host, self.node.openvswitch.remote, *mounts.command(), environment=more)
        return self

    def configure(self, file: str, *, network: str | None = None, **keys: Any) -> Path:
        """Write a configuration of the node's network, or another; a .conflist has it in a list."""
        config = self.node.config(**keys)
        common = {"cniVersion": config.pop("cniVersion"), "name": network or config["name"]}
        del config["name"]
        whole = {**common, "plugins": [config]} if file.endswith(".conflist") else {**common, **config}
        return self.write(file, json.dumps(whole))

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder of configurations."""
        path = self.configurations / name
        path.write_text(text)
        return path

    def words(self, *words: str) -> list[str]:
        """The words of a command line."""
        return ["doctor", *words, "--conf-dir", str(self.configurations), "--bin-dir", str(self.plugins)]

    def examines(self, *words: str) -> Json:
        """What it finds, as JSON; every check was made without failing, and the exit code is the one it tells."""
        done = self.cli.run(*self.words(*words, "--json"), check=False)
        assert done.stderr == "", done
        found: Json = json.loads(done.stdout)
        assert done.returncode == found["exit_code"], done
        assert not [check for check in found["checks"] if check["result"] == "failed"], found["checks"]
        return found

    def finds(self, problem: str, *words: str, code: int) -> Json:
        """The one finding of the worst kind there is, and the exit code is this one."""
        found = self.examines(*words)
        assert found["exit_code"] == code, found["findings"]
        worst = [finding for finding in found["findings"] if finding["level"] != "note"] or found["findings"]
        assert [finding["problem"] for finding in worst] == [problem], found["findings"]
        finding: Json = worst[0]
        assert finding["remedy"] or finding["command"], finding
        return finding

    def type_in(self, finding: Json) -> None:
        """Type the command of a finding on the host."""
        assert finding["command"], finding
        if finding["command"].startswith("cni-ovs "):
            self.cli.run(*shlex.split(finding["command"])[1:])
        else:
            self.node.host.run("sh", "-ec", finding["command"], env={"PATH": self.cli.environment["PATH"]})

    def is_silent(self, *words: str) -> None:
        """It says that the machine is healthy, in one line."""
        done = self.cli.run(*self.words(*words), check=False)
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith("healthy: ") and done.stdout.count("\n") == 1, done.stdout
        assert done.stderr == ""
