"""A runtime in its smallest form: it attaches a container to the plugin chain of a network configuration list.

It does what libcni does with a `.conflist`: every plugin gets its own section with the list's `name` and
`cniVersion`; ADD goes through the chain forwards and hands each result on as `prevResult`; CHECK goes forwards and DEL
backwards, both with the final result.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

from tests.support.namespace import Namespace
from tests.support.plugin import PATH, Json


class Chain:
    """One container's attachment to one network configuration list."""

    def __init__(
        self,
        network: Json,
        host: Namespace,
        sandbox: Namespace,
        *,
        cni_path: str,
        environment: Mapping[str, str],
        ifname: str = "eth0",
    ) -> None:
        """The plugins run on `host` and are found in the folders of `cni_path`; sends nothing yet."""
        self.network = network
        self.sandbox = sandbox
        self.ifname = ifname
        self.container_id = secrets.token_hex(32)
        self.result: Json | None = None
        self._host = host
        self._environment = {"PATH": PATH, **environment, "CNI_PATH": cni_path}

    def add(self) -> Json:
        """ADD of every plugin; the last one's result."""
        result = None
        for plugin in self.network["plugins"]:
            result = self._run("ADD", plugin, result)
        assert result is not None
        self.result = result
        return result

    def check(self) -> None:
        """CHECK of every plugin."""
        for plugin in self.network["plugins"]:
            self._run("CHECK", plugin, self.result)

    def delete(self) -> None:
        """DEL of every plugin, backwards."""
        for plugin in reversed(self.network["plugins"]):
            self._run("DEL", plugin, self.result)

    def status(self) -> None:
        """STATUS of every plugin."""
        for plugin in self.network["plugins"]:
            self._run("STATUS", plugin, None)

    def _run(self, command: str, plugin: Json, previous: Json | None) -> Json | None:
        config = {**plugin, "name": self.network["name"], "cniVersion": self.network["cniVersion"]}
        if previous is not None:
            config["prevResult"] = previous
        environment = {
            **self._environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.sandbox.path,
            "CNI_IFNAME": self.ifname,
        }
        program = shutil.which(plugin["type"], path=environment["CNI_PATH"])
        assert program is not None, f"no {plugin['type']} in {environment['CNI_PATH']}"
        done = self._host.run(program, stdin=json.dumps(config), env=environment, check=False)
        assert done.returncode == 0, f"{command} of {plugin['type']}: {done}"
        answer: Any = json.loads(done.stdout) if done.stdout.strip() else None
        assert answer is None or isinstance(answer, dict)
        return answer
