"""What the doctor's checks look at: read when it is first asked for, and only once.

What cannot be read raises Skip for every check that needs it; the check whose business it is finds the cause in
`__cause__`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cni_ovs.plugin import at_work
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.config import DEFAULT_SOCKET
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import tells_attachment
from cni_ovs.plugin.inspection import Inspection
from cni_ovs.plugin.netlink import Link, Netlink
from cni_ovs.plugin.ovsdb import Client
from cni_ovs.plugin.vswitch import DATABASE

from .. import database, kernel, taps
from ..configurations import runtime_files, source
from ..configurations.runtime_files import ConfigurationFile
from ..database import Bridge, OpenVSwitch, Port
from ..failure import Failure
from ..output import plain
from ..targets import Target
from .attached import Attached, look
from .problems import Skip

T = TypeVar("T")

_SECONDS = 2.0  # for an answer of Open vSwitch
_BUSY_SECONDS = 5.0  # so long ovs-vswitchd may answer nobody: it goes through a thousand new ports, say
_PAUSE = 0.1
PLUGIN_FOLDERS = tuple(source.PLUGIN_FOLDERS.split(":"))
STOPPED, SILENT, DOWN, WELL = "stopped", "silent", "down", "well"


@dataclass
class Machine:
    """This machine, and what the doctor was told.

    Attributes:
        address: of ovsdb-server.
        conf_dirs: folders with network configurations; those that do not exist do not matter.
        bin_dirs: folders with plugins; none for the usual ones.
        target: a container, if only that matters.
        probe: whether something may be sent.
    """

    address: str = DEFAULT_SOCKET
    conf_dirs: tuple[str, ...] = source.FOLDERS
    bin_dirs: tuple[str, ...] = ()
    target: Target | None = None
    probe: bool = False
    _known: dict[str, Any] = field(default_factory=dict)

    def _once(self, what: str, make: Callable[[], T]) -> T:
        if what not in self._known:
            self._known[what] = Skip(f"{what}: it does not answer")  # for others, if this hangs and is left behind
            try:
                self._known[what] = make()
            except Skip as skip:
                self._known[what] = skip
            except BaseException as error:
                self._known[what] = Skip(plain(f"{what}: {error}", 300))
                raise
        value = self._known[what]
        if isinstance(value, Skip):
            raise Skip(str(value)) from value.__cause__
        return value  # type: ignore[no-any-return] # it is what `make` has returned

    def later(self) -> Machine:
        """The same machine, of which nothing is known yet."""
        return replace(self, _known={})

    # Open vSwitch

    @property
    def schema(self) -> dict[str, Any]:
        """The database's schema (RFC 7047 section 3.2)."""

        def ask() -> dict[str, Any]:
            try:
                client = Client(self.address, Deadline(_SECONDS))
                try:
                    schema = client.call("get_schema", [DATABASE])
                finally:
                    client.close()
            except CniError as error:
                raise Skip("ovsdb-server does not answer") from error
            return schema if isinstance(schema, dict) else {}

        return self._once("ovsdb-server", ask)

    @property
    def open_vswitch(self) -> OpenVSwitch:
        """The database as it was when somebody first asked."""

        def read() -> OpenVSwitch:
            _ = self.schema
            return self.read()

        return self._once("Open vSwitch's database", read)

    def read(self) -> OpenVSwitch:
        """The database as it is now."""
        try:
            return database.read(self.address)
        except (CniError, Failure) as error:
            raise Skip(plain(str(error), 300)) from error

    @property
    def ovs_vswitchd(self) -> str:
        """How ovs-vswitchd is: WELL, DOWN, STOPPED or SILENT."""

        def ask() -> str:
            _ = self.schema
            end = time.monotonic() + _BUSY_SECONDS
            try:
                while (state := self._state_of_ovs_vswitchd()) == SILENT and time.monotonic() < end:
                    time.sleep(_PAUSE)
            except (CniError, OSError) as error:
                raise Skip(plain(f"ovs-vswitchd: {error}", 300)) from error
            return state

        return self._once("ovs-vswitchd", ask)

    def _state_of_ovs_vswitchd(self) -> str:
        vswitch = Inspection(self.address, Deadline(_SECONDS))
        answering = vswitch.is_answering()
        if not answering and not vswitch.is_served():
            return DOWN
        if answering is False:
            return STOPPED if stopped(self.control_processes()) else SILENT
        return WELL

    def need_ovs_vswitchd(self) -> None:
        """Skip, unless ovs-vswitchd works: what it writes into the database is out of date then."""
        if self.ovs_vswitchd != WELL:
            raise Skip("ovs-vswitchd does not work")

    def control_processes(self) -> list[int]:
        """The processes whose control sockets are beside the database's socket: ovs-vswitchd.PID.ctl."""
        if not self.address.startswith("unix:"):
            return []
        names = [path.name.split(".") for path in self.folder.glob("ovs-vswitchd.*.ctl")]
        numbers = [int(parts[1]) for parts in names if len(parts) == 3 and parts[1].isdecimal() and len(parts[1]) < 9]
        # One that was killed leaves its socket, and in a container processes have other numbers.
        return [number for number in numbers if _stat(number)[0] == "ovs-vswitchd"]

    @property
    def folder(self) -> Path:
        """Where ovsdb-server's socket is, and those of ovs-vswitchd."""
        return Path(self.address.removeprefix("unix:")).parent

    @property
    def vsctl(self) -> list[str]:
        """How ovs-vsctl is called for this database."""
        return ["ovs-vsctl", *([] if self.address == DEFAULT_SOCKET else [f"--db={self.address}"])]

    @property
    def cni_ovs(self) -> list[str]:
        """What is to be added to a command line of ours for this database; nothing if the environment says it."""
        is_known = self.address in (DEFAULT_SOCKET, os.environ.get("CNI_OVS_DB"))
        return [] if is_known else [f"--db={self.address}"]

    # Attachments

    @property
    def attached(self) -> list[Attached]:
        """Every port of ours; with a target, those of this container."""
        if self.target is None:
            return self.everything_attached
        return self._once("attachments", lambda: self._look(pair for pair in self._pairs() if self._is_meant(pair[1])))

    @property
    def everything_attached(self) -> list[Attached]:
        """Every port of ours, also with a target."""
        return self._once("all attachments", lambda: self._look(self._pairs()))

    def _pairs(self) -> list[tuple[Bridge, Port]]:
        return list(self.open_vswitch.attached())

    def _look(self, pairs: Iterable[tuple[Bridge, Port]]) -> list[Attached]:
        return [look(bridge, port, self.host_links, self._host_ends) for bridge, port in pairs]

    def _is_meant(self, port: Port) -> bool:
        """Whether a port is that of the target."""
        assert self.target is not None
        is_same = port.external_ids.get("contID") == self.target.container_id
        return is_same or identity_of(port.external_ids.get("contNetns", "")) == self.target.identity

    def is_at_work(self, recorded: dict[str, str]) -> bool:
        """Whether an attachment, which external_ids tell of, is just being made or removed."""
        if not tells_attachment(recorded):
            return False
        return at_work.is_add_alive(attachments.name_of(recorded)) or recorded["contID"] in self._leaving

    @property
    def _leaving(self) -> frozenset[str]:
        """The containers of which a plugin removes something now: DEL puts up no sign as ADD does."""
        return self._once("processes", _with_del)

    @property
    def host_links(self) -> dict[str, Link]:
        """The interfaces of this host, by name."""

        def read() -> dict[str, Link]:
            host = Netlink()
            try:
                return {link.name: link for link in host.links()}
            finally:
                host.close()

        return self._once("the kernel's interfaces", read)

    @property
    def _host_ends(self) -> dict[int, int]:
        """Of the veths of this host the indexes of their other ends."""

        def read() -> dict[int, int]:
            host = Netlink()
            try:
                return kernel.other_ends(host)
            finally:
                host.close()

        return self._once("the kernel's interfaces' other ends", read)

    @property
    def taps(self) -> set[str]:
        """The internal ports and taps of the userspace datapath that have their device, as far as that is known."""
        return self._once("taps", lambda: taps.alive(self.address, self.open_vswitch) or set())

    # Files

    @property
    def configurations(self) -> list[ConfigurationFile]:
        """The files with network configurations."""
        return self._once("network configurations", lambda: runtime_files.read(self.conf_dirs))

    @property
    def networks(self) -> list[tuple[str, dict[str, Any]]]:
        """Network and configuration of each plugin of ours that is for this Open vSwitch; a flat file counts."""

        def read() -> list[tuple[str, dict[str, Any]]]:
            named = [(file.name, runtime_files.whole(plugin)) for file in self.configurations for plugin in file.ours]
            return [(name, plugin) for name, plugin in named if runtime_files.is_for(plugin, self.address)]

        return self._once("networks", read)

    @property
    def plugin_folders(self) -> list[str]:
        """The folders with plugins: those that we were told, or the usual ones and containerd's."""
        if self.bin_dirs:
            return list(dict.fromkeys(self.bin_dirs))
        named = self.containerd_folders
        return list(dict.fromkeys([*(folder for folder in PLUGIN_FOLDERS if os.path.isdir(folder)), *named]))

    @property
    def containerd_folders(self) -> list[str]:
        """The folders in which containerd looks for plugins, unless we were told others."""
        return [] if self.bin_dirs else runtime_files.containerd_bin_dirs()


def identity_of(path: str) -> tuple[int, int] | None:
    """What tells a namespace from others; None if it is not there, or "" was recorded."""
    try:
        return kernel.identity(path) if path else None
    except (OSError, ValueError):
        return None


def stopped(processes: list[int]) -> list[int]:
    """Those of these processes that are stopped (SIGSTOP, or a debugger)."""
    return [process for process in processes if _stat(process)[1] in ("T", "t")]


def _with_del() -> frozenset[str]:
    """The containers of all plugins that a DEL, or garbage collection, has called: IPAM plugins among them."""
    found: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"CNI_COMMAND=DEL" in variables:
            ids = (variable.partition(b"=")[2] for variable in variables if variable.startswith(b"CNI_CONTAINERID="))
            found.update(container_id.decode(errors="replace") for container_id in ids)
    return frozenset(found)


def _stat(process: int) -> tuple[str, str]:
    """Name and state of a process (proc(5)); empty if it is gone."""
    try:
        name, _, rest = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return "", ""
    return name.partition("(")[2], rest.split()[0]
