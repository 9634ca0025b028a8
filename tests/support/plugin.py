"""Running the plugin as a runtime does: one process per command, inside the namespace that plays the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support.namespace import Namespace

REPOSITORY = Path(__file__).resolve().parents[2]
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Json = dict[str, Any]
Stdin = Json | str | bytes | None


@dataclass(frozen=True)
class Target:
    """One form in which the plugin exists: how it is started, and what it needs in its environment for that."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Says what to do when this form is not there, else None."""
        needed = Path(self.command[-1]) if not self.environment else REPOSITORY / "cni_ovs/plugin/__main__.py"
        return None if needed.is_file() else f"{needed} is missing: run build/binary"


def _newer_python() -> str:
    """An interpreter newer than 3.11, where there is one: the frozen form has, likely, an older one."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in (14, 13, 12):
        # Not what is on PATH as well: it may be pyenv's shim, which needs another environment than a plugin gets.
        for found in (Path(f"/usr/bin/python3.{version}"), *pyenv.glob(f"3.{version}.*/bin/python3")):
            if found.is_file():
                return str(found)
    return "/usr/bin/python3"


def confined(*capabilities: str) -> Target:
    """The frozen form, and all that it starts, with these capabilities and no others, as user root."""
    wanted = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    setpriv = ("setpriv", f"--bounding-set={wanted}", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")
    return Target("confined", (*setpriv, str(REPOSITORY / "dist/ovs")))


CAPABILITIES = ("net_admin", "sys_admin")  # those that suffice, see docs/security.md
TARGETS = {
    "frozen": Target("frozen", (str(REPOSITORY / "dist/ovs"),)),
    "confined": confined(*CAPABILITIES),
    "module": Target(
        "module",
        (_newer_python(), "-m", "cni_ovs.plugin"),
        # An interpreter sets LC_CTYPE for itself and its children, unless told not to. The frozen one does not.
        {"PYTHONPATH": str(REPOSITORY), "PYTHONCOERCECLOCALE": "0"},
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What one process of the plugin did. `seconds` lasts until it ended AND its stdout and stderr were closed."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def printed(self) -> Json | None:
        """The one JSON object on stdout, or None when stdout is empty."""
        if not self.stdout:
            return None
        printed = json.loads(self.stdout)  # refuses a second object and anything else around the first
        assert isinstance(printed, dict), self
        return printed

    def ok(self) -> Outcome:
        """Itself, when it succeeded; else an AssertionError that shows everything."""
        assert self.exit_code == 0, self
        return self

    def silent(self) -> Outcome:
        """Itself, when it succeeded and printed nothing, as every command but ADD and VERSION must."""
        assert self.exit_code == 0 and self.stdout == "", self
        return self

    @property
    def result(self) -> Json:
        """The result that it printed, after success."""
        printed = self.ok().printed
        assert printed is not None, self
        return printed

    def error(self, *codes: int) -> Json:
        """The error that it printed, checked for form, and for being one of `codes` when there are any."""
        printed = self.printed
        assert self.exit_code == 1 and printed is not None, self
        assert set(printed) <= {"cniVersion", "code", "msg", "details"}, self
        assert type(printed.get("code")) is int and printed["code"] > 0, self
        assert isinstance(printed.get("msg"), str) and printed["msg"], self
        assert isinstance(printed.get("details", ""), str), self
        assert not codes or printed["code"] in codes, f"expected code {codes}: {self}"
        return printed


class Running:
    """A process of the plugin that has not ended yet."""

    def __init__(self, process: subprocess.Popen[bytes], started: float) -> None:
        """Wraps a process that has its whole stdin already."""
        self._process = process
        self._started = started
        self.pid = process.pid

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process that the runtime started, and to no other."""
        os.kill(self.pid, number)

    def ends_within(self, seconds: float) -> bool:
        """Waits at most so long; True when the process has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self, timeout: float = 60) -> Outcome:
        """Waits until it has ended and nobody holds its stdout or stderr any more, at most `timeout` seconds."""
        try:
            stdout, stderr = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as expired:
            ended = self._process.poll() is not None
            self._process.kill()
            self._process.wait(5)
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            raise AssertionError(
                f"not within {timeout} s: "
                + ("ended, but a child of it still holds its stdout or stderr" if ended else "still running")
                + f"; stdout {expired.stdout!r}, stderr {expired.stderr!r}"
            ) from None
        seconds = time.monotonic() - self._started
        return Outcome(self._process.returncode, stdout.decode(), stderr.decode(), seconds)


class Plugin:
    """The plugin in one of its forms, on one host."""

    def __init__(self, target: Target, host: Namespace, temporary: Path) -> None:
        """`temporary` is its TMPDIR, which has to stay empty."""
        self.target = target
        self.host = host
        self.temporary = temporary

    def environment(self, **variables: str) -> dict[str, str]:
        """The whole environment of a run: PATH, TMPDIR, what the target needs, and `variables`."""
        return {"PATH": PATH, "TMPDIR": str(self.temporary), **self.target.environment, **variables}

    def start(
        self, environment: Mapping[str, str], stdin: Stdin | IO[bytes] = None, *, wrapper: tuple[str, ...] = ()
    ) -> Running:
        """Starts it with exactly this environment.

        stdin: an object is sent as JSON, a text or bytes as they are, None is an empty stdin, and an open file is
        handed over. `wrapper` is a command line put before the plugin's, as `("prlimit", "--nofile=20")`.
        """
        if not isinstance(stdin, dict | str | bytes | None):
            return self._start(environment, stdin, wrapper)
        with tempfile.TemporaryFile() as content:
            content.write(_bytes(stdin))
            content.seek(0)
            return self._start(environment, content, wrapper)

    def _start(self, environment: Mapping[str, str], stdin: IO[bytes], wrapper: tuple[str, ...]) -> Running:
        started = time.monotonic()
        process = subprocess.Popen(
            self.host.command(*wrapper, *self.target.command),
            env=dict(environment),
            cwd="/",
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return Running(process, started)

    def run(
        self,
        environment: Mapping[str, str],
        stdin: Stdin | IO[bytes] = None,
        *,
        wrapper: tuple[str, ...] = (),
        timeout: float = 60,
    ) -> Outcome:
        """Runs it to its end and checks what holds for every run: stdout is empty or one JSON object."""
        outcome = self.start(environment, stdin, wrapper=wrapper).wait(timeout)
        try:
            printed = outcome.printed
        except ValueError:
            raise AssertionError(f"stdout is neither empty nor one JSON object: {outcome}") from None
        assert outcome.exit_code == 0 or printed is not None or wrapper, f"a failure without an error: {outcome}"
        return outcome


class Attachment:
    """One attachment of a container to a network: what a runtime knows about it, and the commands it sends.

    The attributes may be changed between commands. `result` is that of the last successful ADD; CHECK and DEL send it
    as `prevResult`, as libcni does.
    """

    def __init__(
        self,
        plugin: Plugin,
        config: Json,
        *,
        container_id: str,
        sandbox: Namespace,
        ifname: str,
        args: str,
        cni_path: str,
    ) -> None:
        """Sends nothing yet."""
        self.plugin = plugin
        self.config = config
        self.container_id = container_id
        self.sandbox = sandbox
        self.ifname = ifname
        self.args = args
        self.cni_path = cni_path
        self.netns = sandbox.path
        self.result: Json | None = None

    def environment(self, command: str, **changes: str | None) -> dict[str, str]:
        """The environment of a command; `changes` override variables, and None takes one out."""
        variables: dict[str, str | None] = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.args,
            "CNI_PATH": self.cni_path,
            **changes,
        }
        return self.plugin.environment(**{key: value for key, value in variables.items() if value is not None})

    def stdin(self, command: str) -> Json:
        """The configuration of a command: with `prevResult` for CHECK and DEL, once there is a result."""
        if command in ("CHECK", "DEL") and self.result is not None and "prevResult" not in self.config:
            return {**self.config, "prevResult": self.result}
        return self.config

    def start(self, command: str, **changes: str | None) -> Running:
        """Starts a command and returns at once."""
        return self.plugin.start(self.environment(command, **changes), self.stdin(command))

    def run(self, command: str, **changes: str | None) -> Outcome:
        """Runs a command; `changes` are those of `environment`."""
        return self.plugin.run(self.environment(command, **changes), self.stdin(command))

    def add(self, **changes: str | None) -> Outcome:
        """ADD; a successful one's result becomes `result`."""
        outcome = self.run("ADD", **changes)
        if outcome.exit_code == 0:
            self.result = outcome.result
        return outcome

    def delete(self, **changes: str | None) -> Outcome:
        """DEL."""
        return self.run("DEL", **changes)

    def check(self, **changes: str | None) -> Outcome:
        """CHECK, with the result of ADD as prevResult."""
        return self.run("CHECK", **changes)

    def status(self) -> Outcome:
        """STATUS of the network, with no variable but the command and CNI_PATH."""
        variables = {"CNI_COMMAND": "STATUS", "CNI_PATH": self.cni_path}
        return self.plugin.run(self.plugin.environment(**variables), self.config)

    def gc(self, **keys: Any) -> Outcome:
        """GC of the network; `keys` are added to the configuration, as `**{"cni.dev/valid-attachments": []}`."""
        variables = {"CNI_COMMAND": "GC", "CNI_PATH": self.cni_path}
        return self.plugin.run(self.plugin.environment(**variables), {**self.config, **keys})

    # Facts about the attachment, read from its result

    @property
    def container_interface(self) -> Json:
        """The container's interface in the result (0.3.0 and later)."""
        assert self.result is not None
        (interface,) = (entry for entry in self.result["interfaces"] if entry.get("sandbox") == self.netns)
        assert isinstance(interface, dict)
        return interface

    @property
    def addresses(self) -> list[str]:
        """The addresses in the result, without prefix length, in their order."""
        assert self.result is not None
        return [entry["address"].partition("/")[0] for entry in self.result.get("ips", [])]


def _bytes(stdin: Json | str | bytes | None) -> bytes:
    if stdin is None:
        return b""
    if isinstance(stdin, bytes):
        return stdin
    return (stdin if isinstance(stdin, str) else json.dumps(stdin)).encode()
