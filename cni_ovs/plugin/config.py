"""The network configuration: parsed, defaulted and validated in one place, before anything changes.

docs/configuration.md describes every key. DEL and GC read leniently: a configuration that ADD refused must not make
DEL fail for ever, so there a wrong value is logged and replaced by its default.
"""

from __future__ import annotations

import posix

from . import forms, log
from .errors import INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from .jsontext import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from .bandwidth import Bandwidth
    from .devices.vhost_user import VhostUser
    from .mirrors import Wanted
    from .vlans import Vlans

    Form: TypeAlias = Callable[[Any], Any]  # takes a value of JSON; see forms.py

DEFAULT_SOCKET = "unix:/var/run/openvswitch/db.sock"
DEFAULT_TIMEOUT = 30.0

# Every key that means something here, or to the CNI specification, and the form of its value. Whoever reads a key, or
# describes it, has it from here. A form is a function in forms.py, or in another file, which only some configurations
# need; `find_form` finds it. Of integers it is the limits too, and whether 0 means none. All of it is constant, because
# it is made at every start.
KEYS: dict[str, str | tuple[str | int, ...]] = {
    "cniVersion": "anything",  # protocol.py looks at it
    "name": "anything",  # so it does
    "type": "anything",
    "args": "anything",
    "runtimeConfig": "anything",
    "capabilities": "anything",
    "prevResult": "mapping",
    "bridge": "bridge",
    "interface_type": "interface_type",
    "sharedDir": "devices.vhost_user.socket_folder",
    "vlan": ("integer", 0, 4094),
    "trunk": "vlans.parse_ids",
    "vlan_mode": "vlans.parse_mode",
    "cvlans": "vlans.parse_ids",
    "deviceID": "pci_address",
    "mtu": ("integer", 68, 65535, True),
    "ofport_request": ("integer", 1, 65279, True),
    "external_ids": "external_ids",
    "bandwidth": "bandwidth.read",
    "macspoofchk": "boolean",
    "ipspoofchk": "boolean",
    "ipam": "mapping",
    "dns": "mapping",
    "socket_file": "socket_file",
    "configuration_path": "flat_file",
    "timeout": "timeout",
    "link_state_check_retries": ("integer", 0, 1_000_000),
    "link_state_check_interval": ("integer", 0, 3_600_000),
    "log_file": "log_file",
    "log_level": "log_level",
}
# The same for keys of objects that are values.
INSIDE = {
    "ipam.type": "ipam_type",
    "runtimeConfig.mac": "mac",
    "runtimeConfig.bandwidth": "bandwidth.read",
    "runtimeConfig.CNIDeviceInfoFile": "flat_file",
    "args.cni.mac": "mac",
    "args.cni.ovnPort": "text",
}
# The types of plugin that have the key `mirrors` besides, and its form there.
MIRRORS = {"ovs-mirror-producer": "mirrors.of_producer", "ovs-mirror-consumer": "mirrors.of_consumer"}
MIRROR_TYPES = tuple(MIRRORS)  # in which anything may be looked for, also what cannot be hashed
FLAT_FILES = ("/etc/kubernetes/cni/net.d/ovs.d/ovs.conf", "/etc/cni/net.d/ovs.d/ovs.conf")
OVN_BRIDGE = "br-int"  # OVN's default
_POD_ARGS = {"K8S_POD_UID": "contPodUid", "K8S_POD_NAME": "contPodName", "K8S_POD_NAMESPACE": "contPodNamespace"}


class NetworkConfig:
    """A validated network configuration.

    Attributes:
        bandwidth: limits, or None; not read for DEL and GC, which remove what is recorded.
        name: of the network.
        raw: the whole configuration, which an IPAM plugin receives: unchanged, unless a flat file fills it up.
        values: the same, decoded.
        bridge: name of the bridge; "" only in DEL and GC, which do not need it, and if it is that of a VF's uplink.
        interface_type: one of the kinds of port in devices/.
        device_id: PCI address of the VF that is attached instead, or None.
        vlans: None for a port that is a trunk of all VLANs, as Open vSwitch makes it; not read for DEL and GC.
        type: name of the plugin that is meant; they are all this program.
        vhost_user: only for a port of that kind; else None.
        mirrors: only where that is one for mirrors.
        mtu, ofport_request: None leaves them to the kernel and to Open vSwitch.
        mac: six bytes, or None.
        ovn_port: name of the logical switch port in OVN, or None.
        socket_file: "unix:PATH" or "tcp:HOST:PORT" of ovsdb-server.
        timeout: seconds for the whole command.
        macspoofchk, ipspoofchk: what OpenFlow rules check of what the container sends.
        link_wait: seconds that ovs-vswitchd may take for the port, or None for as long as `timeout` allows.
        external_ids: what the user adds to the port.
        pod: external_ids that name the pod, from CNI_ARGS.
        ipam_type: name of the IPAM plugin, or None for layer 2 only.
        dns: the `dns` object for the result; empty if there is none.
        prev_result: the result of the plugin before us in a chain, or None.
    """

    __slots__ = (
        "bandwidth", "bridge", "device_id", "dns", "external_ids", "interface_type", "ipam_type", "ipspoofchk",
        "link_wait", "mac", "macspoofchk", "mirrors", "mtu", "name", "ofport_request", "ovn_port", "pod",
        "prev_result", "raw", "socket_file", "timeout", "type", "values", "vhost_user", "vlans",
    )  # fmt: skip

    bandwidth: Bandwidth | None
    bridge: str
    device_id: str | None
    dns: dict[str, Any]
    external_ids: dict[str, str]
    interface_type: str
    ipam_type: str | None
    ipspoofchk: bool
    link_wait: float | None
    mac: bytes | None
    macspoofchk: bool
    mirrors: list[Wanted]
    mtu: int | None
    name: str
    ofport_request: int | None
    ovn_port: str | None
    pod: dict[str, str]
    prev_result: dict[str, Any] | None
    raw: bytes
    socket_file: str
    timeout: float
    type: str
    values: dict[str, Any]
    vhost_user: VhostUser | None
    vlans: Vlans | None

    @property
    def checks_spoofing(self) -> bool:
        """Whether the port gets OpenFlow rules."""
        return self.macspoofchk or self.ipspoofchk

    @property
    def spoofing_keys(self) -> str:
        """Those of the two keys that are set, for messages."""
        return " and ".join(repr(key) for key in ("macspoofchk", "ipspoofchk") if getattr(self, key))

    @property
    def valid_attachments(self) -> list[tuple[str, str]] | None:
        """Pairs of container id and interface name that GC keeps, or None when the runtime sent no list.

        Raises:
            CniError: INVALID_CONFIG, whatever the command. Leniency would remove a running container's port.
        """
        return _valid_attachments(self.values)


def find_form(form: str | tuple[str | int, ...]) -> Form:
    """The function that takes a value of JSON and returns what it means, or raises ValueError with what is allowed.

    Args:
        form: as in KEYS.
    """
    if not isinstance(form, str):
        name, *limits = form
        return getattr(forms, str(name))(*limits)  # type: ignore[no-any-return] # a test has them all
    module, _, name = form.rpartition(".")
    found = __import__(f"{__package__}.{module}", None, None, [name]) if module else forms
    return getattr(found, name)  # type: ignore[no-any-return]


def lookup(values: dict[str, Any], key: str) -> Any:
    """The value of a key: of that very name, or else of one that differs only in case, as clients in Go write it.

    None when there is none; JSON's null is the same.
    """
    if key in values:
        return values[key]
    lower = key.lower()
    for name, value in values.items():
        if name.lower() == lower:
            return value
    return None


def parse(values: dict[str, Any], raw: bytes, cni_args: str, *, lenient: bool = False) -> NetworkConfig:
    """Validate a network configuration.

    Args:
        values: the configuration as decoded from JSON; `name` has been checked by protocol.py.
        raw: the same as text.
        cni_args: CNI_ARGS.
        lenient: for DEL and GC: replace a wrong value by its default.

    Raises:
        CniError: INVALID_CONFIG, naming key, value and what is allowed; INVALID_ENVIRONMENT for CNI_ARGS.
    """
    if "plugins" in values and not lenient:
        hint = "a runtime gives each plugin its own part of it"
        raise CniError(INVALID_CONFIG, "this is a network configuration list: it has 'plugins'", hint, "plugins")
    reader = Reader(values, lenient)
    flat_file = reader.read("configuration_path", "") or usual_flat_file()
    if flat_file:
        from . import flatfile  # noqa: PLC0415 - start-up time, for a node without one

        values, raw, filled = reader.attempt((values, raw, []), lambda: flatfile.fill_up(values, raw, flat_file))
        reader = Reader(values, lenient, files=dict.fromkeys(filled, flat_file))
    config = NetworkConfig()
    config.raw = raw
    config.values = values
    config.name = lookup(values, "name")
    config.type = lookup(values, "type") or "ovs"
    log_level = reader.read("log_level", "info")
    log_file = reader.read("log_file", None)
    reader.attempt(None, lambda: _configure_log(log_level, log_file))
    unknown = [] if lenient else _report_unknown(values)
    try:
        fill(config, reader, values, cni_args)
    except CniError as error:
        # A wrong name may be why another key is missing, and of a command that fails runtimes show no log.
        error.details = "; ".join(text for text in (error.details, *unknown) if text)
        raise
    return config


def fill(config: NetworkConfig, reader: Reader, values: dict[str, Any], cni_args: str) -> None:
    """Read every key, but for those that `parse` has read before.

    Whatever can be wrong passes `reader.attempt`, so with one that goes on, this goes through all of the configuration.
    """
    config.timeout = reader.read("timeout", DEFAULT_TIMEOUT)
    config.socket_file = reader.read("socket_file", DEFAULT_SOCKET)
    ipam = reader.read("ipam", {})
    config.ipam_type = reader.inside("ipam", ipam).read("type", None)
    if ipam and config.ipam_type is None and not reader.lenient:  # as with other plugins no error
        reader.warn("'ipam' has no 'type', so no IPAM plugin is asked: the attachment gets no address", "ipam")
    config.dns = reader.read("dns", {})
    config.prev_result = reader.read("prevResult", None)
    arguments = reader.attempt({}, lambda: parse_cni_args(cni_args))
    config.pod = {ours: arguments[theirs] for theirs, ours in _POD_ARGS.items() if arguments.get(theirs)}
    config.mac = reader.attempt(None, lambda: _find_mac(values, arguments))
    config.ovn_port = reader.attempt(None, lambda: _find_ovn_port(values, arguments))
    config.bandwidth = None if reader.lenient else reader.attempt(None, lambda: _find_bandwidth(reader, values))
    _parse_port(reader, values, config)
    if config.type in MIRROR_TYPES:
        config.mirrors = reader.read("mirrors", [], required=True, form=MIRRORS[config.type])


def _parse_port(reader: Reader, values: dict[str, Any], config: NetworkConfig) -> None:
    """The keys that describe the port and its device."""
    config.device_id = reader.read("deviceID", None)
    needed = config.device_id is None or config.type in MIRROR_TYPES  # else it is that of the uplink
    if config.ovn_port is None:
        config.bridge = reader.read("bridge", "", required=needed)
    else:
        config.bridge = reader.read("bridge", OVN_BRIDGE)
    config.interface_type = reader.read("interface_type", "veth")
    if config.device_id is not None and config.interface_type != "veth":
        reader.attempt(None, lambda: _refuse_internal_device(config))
    config.vhost_user = None
    if config.interface_type.startswith("dpdkvhostuser"):
        from .devices import vhost_user  # noqa: PLC0415 - start-up time, for a port that is a network device

        config.vhost_user = vhost_user.read(reader, config, _nested(values, "runtimeConfig", "CNIDeviceInfoFile"))
    if config.bandwidth is not None:
        reader.attempt(None, lambda: _refuse_unlimited(config))
    config.vlans = None
    if not reader.lenient and any(reader.value(key) is not None for key in ("vlan", "trunk", "vlan_mode", "cvlans")):
        from . import vlans  # noqa: PLC0415 - start-up time, for a port without them

        config.vlans = reader.attempt(None, lambda: vlans.read(reader))
    config.mtu = reader.read("mtu", None)
    config.ofport_request = reader.read("ofport_request", None)
    config.macspoofchk = reader.read("macspoofchk", False)
    config.ipspoofchk = reader.read("ipspoofchk", False)
    if config.checks_spoofing and not reader.lenient:
        reader.attempt(None, lambda: _refuse_unchecked(config))
    config.external_ids = reader.read("external_ids", {})
    retries = reader.read("link_state_check_retries", None)
    interval = reader.read("link_state_check_interval", None)
    config.link_wait = None
    if retries is not None or interval is not None:
        config.link_wait = (
            max(5 * 600, (5 if retries is None else retries) * (600 if interval is None else interval)) / 1000
        )


def usual_flat_file() -> str:
    """The flat file that is at a usual place; "" if there is none."""
    for path in FLAT_FILES:
        if posix.access(path, posix.F_OK):
            return path
    return ""


class Reader:
    """Reads keys of an object, and decides what becomes of a wrong value.

    Args:
        values: the object.
        lenient: log a wrong value, instead of raising.
        where: of the object, for messages: "" or "ipam.".
        files: where values are from that the runtime did not send, by key.
    """

    def __init__(
        self, values: dict[str, Any], lenient: bool, where: str = "", files: dict[str, str] | None = None
    ) -> None:
        self._values = values
        self._in_lower_case: dict[str, Any] = {}
        for key, value in values.items():
            self._in_lower_case.setdefault(key.lower(), value)
        self.lenient = lenient
        self._where = where
        self._files = files or {}

    def inside(self, key: str, values: dict[str, Any]) -> Reader:
        """The same for the object that is the value of a key."""
        return Reader(values, self.lenient, f"{key}.", self._files)

    def value(self, key: str) -> Any:
        """The value of a key as it is, found as by `lookup`; None if there is none."""
        return self._values[key] if key in self._values else self._in_lower_case.get(key.lower())

    def read(self, key: str, default: Any, *, required: bool = False, form: str = "") -> Any:
        """The converted value of a key whose form is in KEYS or INSIDE, unless it is given."""
        value = self.value(key)
        if value is None and not required:
            return default  # so it is with most
        name = self._where + key

        def check() -> Any:
            if value is None:
                raise CniError(INVALID_CONFIG, f"{name!r} is missing in the network configuration", key=name)
            convert = find_form(form or (INSIDE if self._where else KEYS)[name])
            try:
                return convert(value)
            except ValueError as error:
                file = lookup(self._files, name.partition(".")[0])
                named = f"{name!r} in {file}" if file else repr(name)
                raise CniError(INVALID_CONFIG, f"invalid {named}: {shown(value)}: {error}", key=name) from error

        return self.attempt(default, check)

    def attempt(self, default: Any, work: Callable[[], Any]) -> Any:
        """What `work` returns, or the default when it raises CniError and we are lenient."""
        try:
            return work()
        except CniError as error:
            if not self.lenient:
                raise
            log.warning(f"ignored: {error.msg}")
            return default

    def warn(self, text: str, key: str) -> None:
        """Say of a key what is no error, but hardly meant."""
        log.warning(text)


def _configure_log(level: str, path: str | None) -> None:
    try:
        log.configure(level, path)
    except OSError as error:
        what = f"'log_file' {path!r} cannot be opened: {error.strerror}"
        raise CniError(INVALID_CONFIG, what, key="log_file") from error


def parse_cni_args(text: str) -> dict[str, str]:
    """The pairs of CNI_ARGS: `K=V` joined by `;`. The last of several wins; a value may contain `=`.

    Raises:
        CniError: INVALID_ENVIRONMENT, for a part without `=`.
    """
    arguments = {}
    for part in text.split(";"):
        if not part:
            continue
        key, equals, value = part.partition("=")
        if not equals:
            raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_ARGS: {part!r} is not of the form KEY=VALUE")
        arguments[key] = value
    return arguments


def _nested(values: dict[str, Any], *keys: str) -> Any:
    """A value inside objects; None where one is missing or is something else."""
    current: Any = values
    for key in keys:
        if not isinstance(current, dict):
            return None
        current = lookup(current, key)
    return current


def _find_mac(values: dict[str, Any], arguments: dict[str, str]) -> bytes | None:
    """The first of `runtimeConfig.mac`, `args.cni.mac` and MAC in CNI_ARGS."""
    mac: bytes | None = _first(
        ("runtimeConfig.mac", _nested(values, "runtimeConfig", "mac")),
        ("args.cni.mac", _nested(values, "args", "cni", "mac")),
        ("MAC in CNI_ARGS", arguments.get("MAC")),
    )
    return mac


def _find_ovn_port(values: dict[str, Any], arguments: dict[str, str]) -> str | None:
    """The first of `args.cni.ovnPort` and OvnPort in CNI_ARGS."""
    port: str | None = _first(
        ("args.cni.ovnPort", _nested(values, "args", "cni", "ovnPort")),
        ("OvnPort in CNI_ARGS", arguments.get("OvnPort")),
    )
    return port


def _find_bandwidth(reader: Reader, values: dict[str, Any]) -> Bandwidth | None:
    """The first of `runtimeConfig.bandwidth` and `bandwidth`."""
    asked, configured = _nested(values, "runtimeConfig", "bandwidth"), reader.value("bandwidth")
    asked, configured = (None if value == {} else value for value in (asked, configured))
    bandwidth: Bandwidth | None = _first(("runtimeConfig.bandwidth", asked), ("bandwidth", configured))
    return bandwidth


_ARGUMENTS = {"MAC in CNI_ARGS": "mac", "OvnPort in CNI_ARGS": "text"}


def _first(*places: tuple[str, Any]) -> Any:
    """The first value that is not empty, converted; None if there is none.

    Args:
        places: where a value is (a key, or one of _ARGUMENTS), and the value.
    """
    for where, value in places:
        if value is None or value == "":
            continue
        form = _ARGUMENTS.get(where) or INSIDE.get(where) or KEYS[where]
        try:
            return find_form(form)(value)
        except ValueError as error:
            if where in _ARGUMENTS:
                raise CniError(INVALID_ENVIRONMENT, f"invalid {where}: {shown(value)}: {error}") from error
            raise CniError(INVALID_CONFIG, f"invalid {where!r}: {shown(value)}: {error}", key=where) from error
    return None


def _refuse_unchecked(config: NetworkConfig) -> None:
    """Refuse what makes it impossible to check what a container sends."""
    key = "macspoofchk" if config.macspoofchk else "ipspoofchk"
    if config.ipspoofchk and config.ipam_type is None:
        hint = "set 'ipam', or 'macspoofchk' alone"
        what = "'ipspoofchk' needs 'ipam': without addresses nothing could pass"
        raise CniError(INVALID_CONFIG, what, hint, "ipspoofchk")
    if config.vhost_user is not None:
        what = f"{config.spoofing_keys} cannot be used with 'interface_type' {config.interface_type!r}"
        raise CniError(INVALID_CONFIG, what, "only the program knows the MAC of such a port", key)
    if not config.socket_file.startswith("unix:"):
        what = f"{config.spoofing_keys} needs Open vSwitch on this machine, and 'socket_file' is {config.socket_file!r}"
        hint = "OpenFlow rules are set over a socket beside that of ovsdb-server"
        raise CniError(INVALID_CONFIG, what, hint, key)


def _refuse_unlimited(config: NetworkConfig) -> None:
    """Refuse limits for a port that nothing here can limit."""
    if config.device_id is not None:
        what = f"'bandwidth' does not go with 'deviceID' {config.device_id!r}"
        hint = "packets of a VF pass through its NIC alone, where nothing here limits them"
        raise CniError(INVALID_CONFIG, what, hint, "bandwidth")


def _refuse_internal_device(config: NetworkConfig) -> None:
    what = f"'interface_type' {config.interface_type!r} does not go with 'deviceID' {config.device_id!r}"
    hint = "leave out 'interface_type': the port is the representor of the device"
    raise CniError(INVALID_CONFIG, what, hint, "interface_type")


def _valid_attachments(values: dict[str, Any]) -> list[tuple[str, str]] | None:
    """What NetworkConfig.valid_attachments says."""
    # An earlier draft of the specification called it `attachments`.
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        if key not in values:
            continue
        found = values[key]
        if found is None:
            return []
        if not isinstance(found, list):
            raise CniError(INVALID_CONFIG, f"invalid {key!r}: {shown(found)}: must be a list")
        pairs = []
        for item in found:
            pair = (lookup(item, "containerID"), lookup(item, "ifname")) if isinstance(item, dict) else (None, None)
            if not isinstance(pair[0], str) or not isinstance(pair[1], str):
                # Dropping the item would remove a running container's port.
                raise CniError(INVALID_CONFIG, f"invalid {key!r}: {shown(item)}: must have containerID and ifname")
            pairs.append((pair[0], pair[1]))
        return pairs
    return None


def _report_unknown(values: dict[str, Any]) -> list[str]:
    """Log the keys that nobody knows; returns what was logged."""
    if values.keys() <= KEYS.keys():
        return []
    from .unknown_keys import report  # noqa: PLC0415 - start-up time, for a mistake that is rare

    return report(values)
