"""vhost-user ports: packets pass through memory that ovs-vswitchd shares with a program in the container.

The program is a virtual machine or one that uses DPDK. Both meet at a Unix socket: of a port of type
`dpdkvhostuserclient` the program serves it, and ovs-vswitchd connects to it again and again; of one of type
`dpdkvhostuser` ovs-vswitchd serves it. There is no network device, so nothing is done in the container's namespace, and
addresses are only told in the result, as by other plugins of this kind.
"""

from __future__ import annotations

import posix

from .. import device_info, forms
from ..attachment import DEVICE_INFO, SOCKET, is_port_name
from ..errors import INVALID_CONFIG, IO_FAILURE, NAME_TAKEN, CniError
from ..inet import format_mac
from ..jsontext import shown
from ..ovsdb import map_of, set_of
from . import Ends, refuse_kernel_datapath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..attachment import Attachment
    from ..config import NetworkConfig, Reader
    from ..deadline import Deadline
    from ..netlink import Netlink
    from ..netns import Namespace

MADE_BY_OPEN_VSWITCH = True
IS_GIVEN_BACK = False
COLUMNS: tuple[str, ...] = ("dpdk_initialized", "iface_types", "other_config", "external_ids")
CLIENT = "dpdkvhostuserclient"  # is what ovs-vswitchd is
_RUN_FOLDER = "/var/run/openvswitch"
LONGEST_FOLDER = forms.UNIX_PATH_BYTES - len("/cni0123456789ab")
# Of st_mode, inode(7)
_TYPE, _FOLDER, _SOCKET, _STICKY, _WRITABLE_BY_ALL = 0o170000, 0o040000, 0o140000, 0o1000, 0o002


class VhostUser:
    """What the configuration says of a vhost-user port.

    Attributes:
        interface_type: of the two, its name in Open vSwitch.
        folder: of the socket; "" for the one that Open vSwitch uses.
        device_info_file: the path of the device-information file; None if the runtime wants none.
    """

    __slots__ = ("device_info_file", "folder", "interface_type")

    def __init__(self, interface_type: str, folder: str, device_info_file: str | None) -> None:
        self.interface_type = interface_type
        self.folder = folder
        self.device_info_file = device_info_file

    def recorded(self, name: str) -> dict[str, str]:
        """The external_ids of a port of this name that tell of its files."""
        ids = {SOCKET: f"{self.folder}/{name}"} if self.folder else {}
        return ids if self.device_info_file is None else {**ids, DEVICE_INFO: self.device_info_file}

    def device_info(self, path: str) -> bytes:
        """What the device-information file says. Its modes are those of the container's program, not ovs-vswitchd's."""
        return device_info.vhost_user("server" if self.interface_type == CLIENT else "client", path)

    def remove_files(self, attachment: Attachment) -> None:
        """Remove the files of an attachment of which Open vSwitch knows nothing (any more)."""
        remove_files(attachment.port_name, self.recorded(attachment.port_name))

    def check(
        self, attachment: Attachment, expected: dict[str, Any], same: Callable[[str, object, object], None]
    ) -> None:
        """Verify, for CHECK, that the socket is where the result of ADD says, and there, if ovs-vswitchd serves it.

        Args:
            attachment: whose port it is.
            expected: the container's interface in the result; before version 1.1.0 it tells of no socket.
            same: raises the error if expectation and finding differ.
        """
        path = expected.get("socketPath")
        if self.folder and path:
            same(f"socket of port {attachment.port_name!r}", path, f"{self.folder}/{attachment.port_name}")
        if self.interface_type != CLIENT and path:
            same(f"socket {path!r}", "a socket", "a socket" if _is_socket(path) else "none")


def read(reader: Reader, config: NetworkConfig, device_info_file: Any) -> VhostUser:
    """The keys that only these ports have.

    Args:
        reader: of the configuration.
        config: what has been read of it.
        device_info_file: the value of `runtimeConfig.CNIDeviceInfoFile`.

    Raises:
        CniError: INVALID_CONFIG.
    """
    is_client = config.interface_type == CLIENT
    shared_dir = reader.read("sharedDir", "", required=is_client)

    def info_file() -> str | None:
        if device_info_file in (None, ""):
            return None
        try:
            return forms.log_file(device_info_file)
        except ValueError as error:
            key = "runtimeConfig.CNIDeviceInfoFile"
            raise CniError(INVALID_CONFIG, f"invalid {key!r}: {shown(device_info_file)}: {error}", key=key) from error

    def no_dhcp() -> None:
        if config.ipam_type == "dhcp":
            what = f"'ipam' type 'dhcp' does not go with 'interface_type' {config.interface_type!r}"
            hint = "its client needs a network device, and this port has none"
            raise CniError(INVALID_CONFIG, what, hint, "ipam.type")

    reader.attempt(None, no_dhcp)
    return VhostUser(config.interface_type, shared_dir, reader.attempt(None, info_file))


def socket_folder(value: Any) -> str:
    """The absolute path of a folder that leaves room for a port's name; "" for none."""
    path = forms.flat_file(value).rstrip("/")
    if value and not path:
        raise ValueError("must not be the root folder")
    if len(path.encode(errors="surrogateescape")) > LONGEST_FOLDER:
        raise ValueError(
            f"must have at most {LONGEST_FOLDER} bytes: the path of a Unix socket has at most {forms.UNIX_PATH_BYTES},"
            f" and the port's name is to be added"
        )
    return path


def prepare(datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig) -> None:
    """Refuse an Open vSwitch without DPDK, and a folder in which others could replace the socket; record the files."""
    this = _of(config)
    refuse_kernel_datapath(datapath_type, config, "vhost-user ports are DPDK's, which passes no packets to the kernel")
    if not open_vswitch["dpdk_initialized"] or config.interface_type not in set_of(open_vswitch["iface_types"]):
        raise CniError(
            INVALID_CONFIG,
            f"'interface_type' {config.interface_type!r} needs an Open vSwitch with DPDK, and this one runs without",
            "install one that has it (Debian: openvswitch-switch-dpdk), then"
            " ovs-vsctl set Open_vSwitch . other_config:dpdk-init=true, and restart ovs-vswitchd",
        )
    if not this.folder:
        this.folder = folder_of_open_vswitch(open_vswitch, config.socket_file)
    _check_folder(this.folder)
    attachment.external_ids |= this.recorded(attachment.port_name)


def folder_of_open_vswitch(open_vswitch: dict[str, Any], socket_file: str) -> str:
    """Where ovs-vswitchd makes sockets: below the folder that its start script records, or else beside the database.

    Args:
        open_vswitch: the columns `external_ids` and `other_config` of its row.
        socket_file: where the database is.

    Raises:
        CniError: INVALID_CONFIG, when that is no folder for sockets.
    """
    recorded = dict(open_vswitch["external_ids"][1]).get("rundir", "")
    kind, _, database = socket_file.partition(":")
    folder = recorded or (database.rpartition("/")[0] if kind == "unix" else _RUN_FOLDER)
    below = dict(open_vswitch["other_config"][1]).get("vhost-sock-dir", "").strip("/")
    path = f"{folder}/{below}" if below else folder
    try:
        return socket_folder(path)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"Open vSwitch makes sockets in {path!r}: it {error}", _SET_FOLDER) from error


_SET_FOLDER = "set 'sharedDir' to the folder of ovs-vswitchd's sockets"


def _check_folder(path: str) -> None:
    try:
        status = posix.stat(path)
    except OSError as error:
        problem = error.strerror
    else:
        problem = ""
        if status.st_mode & _TYPE != _FOLDER:
            problem = "it is no folder"
        elif status.st_uid not in (0, posix.geteuid()):
            problem = f"it belongs to user {status.st_uid}, not to root"
        elif status.st_mode & _WRITABLE_BY_ALL and not status.st_mode & _STICKY:
            problem = "everybody can write to it, and it is not sticky"
    if problem:
        raise CniError(
            INVALID_CONFIG,
            f"invalid 'sharedDir': {path!r}: {problem}",
            "it must be a folder of root's in which nobody can replace another one's socket",
        )


def columns(attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
    """The type, the MTU, and the socket, unless ovs-vswitchd chooses it."""
    row: dict[str, Any] = {"type": config.interface_type}
    if config.mtu is not None:
        row["mtu_request"] = config.mtu
    if config.interface_type == CLIENT:
        row["options"] = map_of({"vhost-server-path": f"{_of(config).folder}/{attachment.port_name}"})
    return row


def create(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
    """Make room for the socket: neither ovs-vswitchd nor DPDK makes it where one is left over."""
    path = attachment.external_ids[SOCKET]
    _remove_socket(path)
    if _status(path) is not None:
        raise CniError(NAME_TAKEN, f"{path!r}, where the socket of the port should be, is something else")


def mac(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> bytes:
    """Only the program knows it, so config.py has refused what would need it."""
    raise RuntimeError("no MAC")


def connect(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> Ends | None:
    """See that the socket is there that ovs-vswitchd serves, and write the device-information file."""
    this, path = _of(config), attachment.external_ids[SOCKET]
    if config.interface_type != CLIENT and not _is_socket(path):
        raise CniError(
            INVALID_CONFIG, f"ovs-vswitchd has made port {attachment.port_name!r}, but not socket {path!r}", _SET_FOLDER
        )
    if this.device_info_file is not None:
        device_info.write(this.device_info_file, this.device_info(path))
    return None


def interface(attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
    """The interface in the result. MAC and MTU, if they are given, are for the program, which has to use them."""
    found: dict[str, Any] = {"name": attachment.ifname, "sandbox": attachment.netns}
    if config.mac is not None:
        found["mac"] = format_mac(config.mac)
    if config.mtu is not None:
        found["mtu"] = config.mtu
    return {**found, "socketPath": attachment.external_ids[SOCKET]}


def bring_up(host: Netlink, sandbox: Namespace, ends: Ends, deadline: Deadline) -> None:
    """Nothing: there is no device."""


def destroy(host: Netlink, name: str) -> None:
    """Nothing: what ovs-vswitchd has made goes with the row, and `remove_files` does the rest."""


def remove_files(name: str, recorded: dict[str, str]) -> None:
    """Remove a port's socket and device-information file; they may be gone already.

    Args:
        name: of the port.
        recorded: its external_ids. Whoever can write to the database can write there what he likes, so a socket is
            removed only if it is one and is called like the port, and a file only if it tells of such a socket.

    Raises:
        CniError: IO_FAILURE.
    """
    if not is_port_name(name):
        return
    if DEVICE_INFO in recorded:
        device_info.remove(recorded[DEVICE_INFO], name)
    path = recorded.get(SOCKET, "")
    if path.startswith("/") and path.rpartition("/")[2] == name:
        _remove_socket(path)


def _remove_socket(path: str) -> None:
    try:
        if _is_socket(path):
            posix.unlink(path)
    except OSError as error:
        if error.errno not in device_info.GONE:  # whoever served it may have been faster
            what = f"socket {path!r} cannot be removed: {error.strerror}"
            raise CniError(IO_FAILURE, what, "remove it, or make its folder writable") from error


def _is_socket(path: str) -> bool:
    status = _status(path)
    return status is not None and status.st_mode & _TYPE == _SOCKET


def _status(path: str) -> posix.stat_result | None:
    """What is at a path; None if nothing is."""
    try:
        return posix.lstat(path)
    except ValueError:
        return None  # no path can be so
    except OSError as error:
        if error.errno in device_info.GONE:
            return None
        raise


def _of(config: NetworkConfig) -> VhostUser:
    if config.vhost_user is None:
        raise RuntimeError("no vhost-user port")
    return config.vhost_user
