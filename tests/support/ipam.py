"""Address management: configurations for the real plugins, and small real plugins that misbehave on purpose."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.plugin import REPOSITORY, Json

DEBIAN = "/usr/lib/cni"  # host-local, static and dhcp up to spec version 1.0.0
TOOLS = os.environ.get("CNI_OVS_TEST_TOOLS") or str(REPOSITORY / ".tools/bin")  # the same ones, 1.1.0 too


def cni_path(version: str, *, needed: bool = True) -> str:
    """The folder with IPAM plugins that know a spec version; where it is needed and not there, the test is skipped."""
    folder = TOOLS if version == "1.1.0" else DEBIAN
    if needed and not (Path(folder) / "host-local").is_file():
        pytest.skip(f"no {folder}/host-local: build/setup installs it, the newer one where there is a Go toolchain")
    return folder


def host_local(data: Path, *subnets: str, **ranges: str) -> Json:
    """A host-local configuration with one range set per subnet; `data` is the folder of its address files."""
    return {
        "type": "host-local",
        "dataDir": str(data),
        "ranges": [[{"subnet": subnet, **ranges}] for subnet in subnets],
    }


def host_local_files(data: Path) -> list[str]:
    """The addresses that host-local holds as given out: its files but for the lock and the last reserved ones."""
    return sorted(
        path.name for path in data.glob("*/*") if path.name != "lock" and not path.name.startswith("last_reserved_ip")
    )


def static(*addresses: str, gateways: tuple[str, ...] = (), routes: tuple[Json, ...] = (), **more: Any) -> Json:
    """A static configuration: addresses as 10.1.0.2/24, and a gateway for each that has one, in the same order."""
    entries: list[Json] = [{"address": address} for address in addresses]
    for entry, gateway in zip(entries, gateways, strict=False):
        entry["gateway"] = gateway
    config: Json = {"type": "static", "addresses": entries, **more}
    if routes:
        config["routes"] = list(routes)
    return config


class ScriptedIpam:
    """A real IPAM plugin: a shell script that records each call and then does what the test says.

    `type` is its name in a configuration and `folder` belongs into CNI_PATH. What it does for a command is a piece of
    shell; the default for ADD is to hand out `ips`, and nothing for every other command.
    """

    def __init__(self, folder: Path, *, name: str = "scripted", **actions: str) -> None:
        """Writes the script. `actions` are pieces of shell by command, as `ADD="sleep 60"`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.type = name
        self._records = folder / f"{name}.records"
        self._records.mkdir(exist_ok=True)
        self._script = folder / name
        self.act(**actions)

    def act(self, **actions: str) -> None:
        """Changes what it does."""
        actions = {"ADD": self.answer("10.77.0.2/24"), **actions}
        cases = "\n".join(f"{command})\n{action}\n;;" for command, action in actions.items())
        text = (
            "#!/bin/sh\n"
            f"cat > '{self._records}'/$CNI_COMMAND.stdin\n"
            f"env > '{self._records}'/$CNI_COMMAND.env\n"
            f"echo $$ > '{self._records}'/$CNI_COMMAND.pid\n"
            f"echo $CNI_COMMAND >> '{self._records}'/calls\n"
            f'case "$CNI_COMMAND" in\n{cases}\nesac\n'
        )
        new = self._script.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o755)
        new.rename(self._script)

    @staticmethod
    def answer(*addresses: str, version: str = "1.0.0", **more: Any) -> str:
        """A piece of shell that prints a result with these addresses."""
        ips = [{"address": address} for address in addresses]
        return f"echo '{json.dumps({'cniVersion': version, 'ips': ips, **more})}'"

    @staticmethod
    def refuse(code: int, msg: str, details: str = "") -> str:
        """A piece of shell that fails with an error of CNI's form."""
        error = {"cniVersion": "1.0.0", "code": code, "msg": msg, "details": details}
        return f"echo '{json.dumps(error)}'; exit 1"

    @property
    def config(self) -> Json:
        """The `ipam` part of a network configuration that uses it."""
        return {"type": self.type}

    @property
    def calls(self) -> list[str]:
        """The commands it was called with, in their order."""
        calls = self._records / "calls"
        return calls.read_text().split() if calls.exists() else []

    def stdin(self, command: str) -> str:
        """What it got on stdin in its last call with this command."""
        return (self._records / f"{command}.stdin").read_text()

    def environment(self, command: str) -> dict[str, str]:
        """The environment of its last call with this command."""
        lines = (self._records / f"{command}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def pid(self, command: str) -> int:
        """The process id of its last call with this command."""
        return int((self._records / f"{command}.pid").read_text())
