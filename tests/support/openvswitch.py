"""A private Open vSwitch: its own namespace, database, daemons and folder; the machine's own one is never touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovs.db import idl as ovs_idl
from ovs.poller import Poller

from tests.support.namespace import Namespace
from tests.support.processes import alive, keep, run, wait_for

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"

DATAPATH_TYPES = {"userspace": "netdev", "kernel": "system"}
Row = dict[str, Any]  # column -> value: sets are lists, maps are dicts, references are uuid strings


class Daemon:
    """One long-running program, controlled through its process id."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        """`command` is run by `start()`, with every Open vSwitch folder set to `folder`."""
        self._command = list(command)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; AssertionError when it was never started."""
        assert self._process is not None, f"{self._command[0]} is not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process is there, also when it is stopped by SIGSTOP."""
        return self._process is not None and self._process.poll() is None and alive(self._process.pid)

    def start(self) -> None:
        """Starts it and returns at once; see PrivateOpenVSwitch for waiting until it answers."""
        assert not self.running, f"{self._command[0]} runs already"
        folders = dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"), str(self._folder))
        with open(self._folder / "daemons.out", "ab") as out:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **folders},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if the process runs."""
        if self.running:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP: it holds its sockets and locks but does nothing any more. Returns when it stands still."""
        self.signal(signal.SIGSTOP)
        wait_for("the process is stopped", lambda: _state(self.pid) == "T")

    def thaw(self) -> None:
        """SIGCONT: it goes on after `freeze`."""
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it in an orderly way (SIGTERM), and by SIGKILL when that takes longer than 5 seconds."""
        self.thaw()
        self.signal(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)


class PrivateOpenVSwitch:
    """ovsdb-server and ovs-vswitchd inside a namespace of their own that plays the host.

    Bridges use the userspace datapath, which needs no kernel module, unless told otherwise. Two such ovs-vswitchd in
    one namespace would disturb each other, hence the namespace. Every path lies in `folder`, a new folder directly
    under the temporary one because the name of a unix socket has at most 107 bytes. KEEP=1 in the environment keeps all
    of it.
    """

    def __init__(self, datapath: str = "userspace") -> None:
        """Creates the namespace, the folder and the database; `start()` starts the daemons."""
        self.datapath_type = DATAPATH_TYPES[datapath]
        self.folder = Path(tempfile.mkdtemp(prefix="cniovs-"))
        self.namespace = Namespace("host")
        self.socket = str(self.folder / "db.sock")
        self.remote = f"unix:{self.socket}"
        self.bridges: set[str] = set()
        database = self.folder / "conf.db"
        run(["ovsdb-tool", "create", database, SCHEMA])
        self.ovsdb_server = Daemon(
            self.namespace.command(
                *("ovsdb-server", database, f"--remote=p{self.remote}", f"--unixctl={self.folder}/ovsdb-server.ctl"),
                *(f"--pidfile={self.folder}/ovsdb-server.pid", f"--log-file={self.folder}/ovsdb-server.log"),
                "-vconsole:off",
            ),
            self.folder,
        )
        self.ovs_vswitchd = self._vswitchd(self.remote)

    def start(self) -> None:
        """Starts both daemons and waits until they answer."""
        self.start_ovsdb_server()
        self.vsctl("--no-wait", "init")
        self.start_ovs_vswitchd()

    def start_ovsdb_server(self, *, alone: bool = False) -> None:
        """Starts ovsdb-server and waits until it answers, and unless `alone` until ovs-vswitchd has found it again."""
        self.ovsdb_server.start()
        wait_for("ovsdb-server answers", self._answers, timeout=15)
        if self.ovs_vswitchd.running and not alone:
            self.vsctl("set", "Open_vSwitch", ".", f"external_ids:started={self.ovsdb_server.pid}")

    def start_ovs_vswitchd(self, remote: str | None = None) -> None:
        """Starts ovs-vswitchd, which reaches the database through `remote`, and waits until it has worked it off."""
        if remote:
            self.ovs_vswitchd = self._vswitchd(remote)
        self.ovs_vswitchd.start()
        control = self.folder / f"ovs-vswitchd.{self.ovs_vswitchd.pid}.ctl"
        wait_for("ovs-vswitchd has its control socket", control.exists, timeout=15)
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:started={self.ovs_vswitchd.pid}")

    def _vswitchd(self, remote: str) -> Daemon:
        """Its control socket has the name it has on every host: ovs-vswitchd.<pid>.ctl."""
        return Daemon(
            self.namespace.command(
                *("ovs-vswitchd", remote, f"--pidfile={self.folder}/ovs-vswitchd.pid"),
                *(f"--log-file={self.folder}/ovs-vswitchd.log", "-vconsole:off"),
            ),
            self.folder,
        )

    def stop(self) -> None:
        """Ends both daemons and deletes namespace and folder (with KEEP=1: does nothing and says where it is)."""
        if keep():
            print(f"kept: {self.folder}; ovs-vsctl --db={self.remote} show; {self.namespace.path}")  # noqa: T201
            return
        self.ovs_vswitchd.stop()
        self.ovsdb_server.stop()
        self.namespace.delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def daemons(self) -> set[int]:
        """The process ids of the running daemons."""
        return {daemon.pid for daemon in (self.ovsdb_server, self.ovs_vswitchd) if daemon.running}

    # Configuring and asking, with Open vSwitch's own tools

    def vsctl(self, *words: str, timeout: int = 15, check: bool = True) -> str:
        """Runs ovs-vsctl, which waits until ovs-vswitchd has done it unless `--no-wait` is among the words."""
        command = ["ovs-vsctl", f"--db={self.remote}", f"--timeout={timeout}", *words]
        return run(command, timeout=timeout + 5, check=check).stdout.strip()

    def succeeds(self, *words: str) -> bool:
        """Whether ovs-vsctl, which does not wait for ovs-vswitchd, can do this."""
        return run(["ovs-vsctl", f"--db={self.remote}", "--no-wait", *words], check=False).returncode == 0

    def appctl(self, *words: str, timeout: int = 10) -> str:
        """Runs a command of ovs-vswitchd through its control socket, as `appctl("fdb/show", "br")`."""
        control = self.folder / f"ovs-vswitchd.{self.ovs_vswitchd.pid}.ctl"
        return run(["ovs-appctl", f"--timeout={timeout}", "-t", control, *words], timeout=timeout + 5).stdout

    def add_bridge(self, name: str) -> None:
        """Adds a bridge; `bridges` has the names of all that there ever were."""
        self.bridges.add(name)
        self.vsctl("add-br", name, "--", "set", "Bridge", name, f"datapath_type={self.datapath_type}")

    def delete_bridges(self, names: Sequence[str]) -> None:
        """Removes bridges and does not wait for ovs-vswitchd, which removes their devices some time later."""
        words = [word for name in names for word in ("--", "--if-exists", "del-br", name)]
        self.vsctl("--no-wait", *words[1:])

    def delete_bridge(self, name: str) -> None:
        """Removes a bridge with all its ports, if it is there."""
        self.vsctl("--if-exists", "del-br", name)

    # Reading the database

    def rows(self, table: str) -> list[Row]:
        """Every row of a table, read by `ovs-vsctl --format=json list`."""
        return self.tables(table)[0]

    def tables(self, *tables: str) -> list[list[Row]]:
        """Every row of each table, as they are at one moment."""
        words = [word for table in tables for word in ("--", "list", table)]
        text = self.vsctl("--no-wait", "--format=json", *words[1:])
        found, decoder, start = [], json.JSONDecoder(), 0
        for _ in tables:
            output, end = decoder.raw_decode(text, start)
            start = end + 1  # a line break follows
            found.append([dict(zip(output["headings"], map(_value, row), strict=True)) for row in output["data"]])
        return found

    def row(self, table: str, name: str) -> Row:
        """The row with this name; AssertionError when there is none."""
        rows = self.rows(table)
        for row in rows:
            if row["name"] == name:
                return row
        raise AssertionError(f"no {table} named {name}; there are {sorted(row['name'] for row in rows)}")

    def flows(self, bridge: str) -> int:
        """How many OpenFlow rules a bridge has, its own hidden ones included."""
        return len(self.appctl("bridge/dump-flows", bridge).splitlines())

    def port_names(self, bridge: str) -> list[str]:
        """The names of a bridge's ports, without its own one."""
        return self.vsctl("--no-wait", "list-ports", bridge).split()

    def idl_rows(self, table: str, columns: Sequence[str]) -> list[Row]:
        """Every row of a table as the `ovs` library's IDL sees it: the second, independent witness."""
        helper = ovs_idl.SchemaHelper(SCHEMA)
        helper.register_columns(table, list(columns))
        idl = ovs_idl.Idl(self.remote, helper)
        try:
            for _ in range(1000):
                idl.run()
                if idl.has_ever_connected():
                    break
                poller = Poller()
                idl.wait(poller)
                poller.timer_wait(10)
                poller.block()
            else:
                raise AssertionError(f"the IDL did not connect to {self.remote}")
            return [{column: getattr(row, column) for column in columns} for row in idl.tables[table].rows.values()]
        finally:
            idl.close()

    def transact(self, *operations: Row) -> list[Row]:
        """Carries out a transaction and returns the results, all of it in the notation of RFC 7047.

        For what ovs-vsctl's command line has no room for: any text, of any length.
        """
        request = {"id": 0, "method": "transact", "params": ["Open_vSwitch", *operations]}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(15)
            connection.connect(self.socket)
            connection.sendall(json.dumps(request).encode())
            received = b""
            while True:
                part = connection.recv(1 << 20)
                assert part, "ovsdb-server closed the connection"
                received += part
                with contextlib.suppress(ValueError):  # it is not complete yet
                    answer = json.loads(received)
                    break
        assert answer["error"] is None and not any("error" in result for result in answer["result"] if result), answer
        results: list[Row] = answer["result"]
        return results

    def _answers(self) -> bool:
        assert self.ovsdb_server.running, (self.folder / "daemons.out").read_text()
        return run(["ovsdb-client", "--timeout=2", "list-dbs", self.remote], check=False).returncode == 0


def _value(value: Any) -> Any:
    """A column's value of OVSDB's JSON (RFC 7047 section 5.1) as an ordinary one."""
    if isinstance(value, list) and len(value) == 2:
        kind, content = value
        if kind == "set":
            return [_value(element) for element in content]
        if kind == "map":
            return {_value(key): _value(element) for key, element in content}
        if kind == "uuid":
            return content
    return value


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
