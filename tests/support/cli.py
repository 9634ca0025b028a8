"""Running the operator's command as a person on the host would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.support.forkserver import ForkServer
from tests.support.namespace import Namespace
from tests.support.plugin import PATH, REPOSITORY
from tests.support.processes import run

PYTHON = REPOSITORY / ".venv/bin/python"


@cache
def _server() -> ForkServer:
    return ForkServer(str(PYTHON), str(REPOSITORY))


class Cli:
    """`cni-ovs` in the namespace that plays the host, told where the private Open vSwitch is."""

    def __init__(
        self, host: Namespace, remote: str, *wrapper: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """`wrapper` is a command line put before it, as that of PrivateMounts; `environment` is added to its own."""
        self._host = host
        self._wrapper = wrapper
        self.environment = {"PATH": PATH, "PYTHONPATH": str(REPOSITORY), "CNI_OVS_DB": remote, **(environment or {})}

    def command(self, *words: str) -> list[str]:
        """The command line with these words."""
        return self._host.command(*self._wrapper, str(PYTHON), "-m", "cni_ovs.cli", *words)

    def run(
        self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; see `processes.run`."""
        found = None
        if not self._wrapper:
            found = _server().run(words, self._host.path, self.environment, stdin or "", timeout)
        if found is None:
            return run(self.command(*words), stdin=stdin, env=self.environment, check=check, timeout=timeout)
        done = subprocess.CompletedProcess(["cni-ovs", *words], *found)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(done.args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *words: str, check: bool = True) -> Any:
        """What it prints with --json."""
        return json.loads(self.run(*words, "--json", check=check).stdout)

    def fails(self, *words: str, code: int = 1) -> str:
        """What it says on stderr when it fails with this exit code: no traceback."""
        done = self.run(*words, check=False)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def dies_in(self, function: str, *words: str) -> None:
        """Runs it until it would call this function, as `attaching._finish`; there it dies as if it were killed."""
        imports = f"import os, sys; from cni_ovs.cli import process, {function.split('.', maxsplit=1)[0]}"
        command, code = self.command(*words), f"{imports}; {function} = lambda *_: os._exit(9); process.run()"
        at = command.index("-m")
        command[at : at + 2] = ["-c", code]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 9, done
