"""What each key of the network configuration means, in words: for the README, the JSON Schema, and whoever explains.

The README's table is compared with this by a test. Which form a value must have is in plugin/config.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cni_ovs.plugin.config import DEFAULT_SOCKET, DEFAULT_TIMEOUT

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: of the key.
        type: JSON's: string, integer, number, boolean, object or list.
        default: in Markdown; "none" if nothing takes its place, "required", or words.
        meaning: in Markdown; links are relative to the README.
    """

    name: str
    type: str
    default: str
    meaning: str

    @property
    def row(self) -> str:
        """Its row in the README's table."""
        return f"| `{self.name}` | {self.type} | {self.default} | {self.meaning} |"

    @property
    def text(self) -> str:
        """Its meaning without Markdown."""
        return _LINK.sub(r"\1", self.meaning).replace("`", "")


KEYS = (
    Key("cniVersion", "string", "`0.1.0`", "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0 or 1.1.0"),
    Key("name", "string", "required", "name of the network"),
    Key("type", "string", "required", "`ovs`"),
    Key(
        "bridge", "string", "required",
        "the Open vSwitch bridge; it must exist. With `deviceID`, none means that of the uplink",
    ),
    Key(
        "interface_type", "string", "`veth`",
        "`veth`, `internal`, `tap`, `dpdkvhostuserclient` or `dpdkvhostuser`"
        ' ([docs/configuration.md](docs/configuration.md), "Kinds of port")',
    ),
    Key(
        "sharedDir", "string", "none",
        "vhost-user: absolute path of the folder of the sockets; required for `dpdkvhostuserclient`",
    ),
    Key(
        "vlan", "integer", "none",
        "access VLAN, or native one, 0 to 4094; without it and `trunk` the port is a trunk of all VLANs",
    ),
    Key("trunk", "list", "none", 'VLANs of a trunk: `{"id": 7}`, `{"minID": 20, "maxID": 29}`'),
    Key(
        "vlan_mode", "string", "follows",
        "`access`, `trunk`, `native-untagged`, `native-tagged` or `dot1q-tunnel` ([docs/vlans.md](docs/vlans.md))",
    ),
    Key("cvlans", "list", "all", "VLANs that a `dot1q-tunnel` carries, as `trunk`"),
    Key(
        "deviceID", "string", "none",
        "PCI address of an SR-IOV VF that goes into the container; a device plugin fills it in",
    ),
    Key(
        "mtu", "integer", "the kernel's",
        "68 to 65535, on both ends; `mtu_request` where Open vSwitch makes the device",
    ),
    Key("ofport_request", "integer", "none", "OpenFlow port number to ask for, 1 to 65279"),
    Key("external_ids", "object", "none", "strings to add to the port's `external_ids`"),
    Key(
        "bandwidth", "object", "none",
        "how fast the container may receive and send ([docs/bandwidth.md](docs/bandwidth.md))",
    ),
    Key(
        "macspoofchk", "boolean", "false",
        "let the container send only from its own MAC ([docs/spoofing.md](docs/spoofing.md))",
    ),
    Key("ipspoofchk", "boolean", "false", "the same for its addresses, which `ipam` gives it"),
    Key("ipam", "object", "none", "IPAM plugin; without it the attachment is layer 2 only"),
    Key("dns", "object", "IPAM's", "for the result"),
    Key(
        "socket_file", "string", f"`{DEFAULT_SOCKET}`",
        "ovsdb-server: `unix:PATH`, a path, or `tcp:ADDRESS:PORT` (IPv6 in brackets)",
    ),
    Key("configuration_path", "string", "none", "flat file with what is left out here"),
    Key("timeout", "number", f"{DEFAULT_TIMEOUT:g}", "seconds for the whole command, 1 to 3600"),
    Key(
        "link_state_check_retries", "integer", "none",
        "this times the next is how long ovs-vswitchd may take for a port (at least 3 s);"
        " unset: as long as `timeout` allows",
    ),
    Key("link_state_check_interval", "integer", "none", "milliseconds"),
    Key("log_file", "string", "none", "absolute path; messages go there besides stderr"),
    Key("log_level", "string", "`info`", "`debug`, `info`, `warning` or `error`"),
)  # fmt: skip
# Those that a runtime or another plugin writes, or reads.
SPECIFICATION = (
    Key("prevResult", "object", "none", "result of the plugin before this one in a chain; a runtime fills it in"),
    Key("args", "object", "none", "what is asked for one container: `args.cni.mac`, `args.cni.ovnPort`"),
    Key("runtimeConfig", "object", "none", "what a runtime fills in that has been told of `capabilities`"),
    Key("capabilities", "object", "none", "what a runtime may fill in: `mac`, `bandwidth`, `CNIDeviceInfoFile`"),
)
_MEANING = "the mirrors that the port is given to ([docs/mirrors.md](docs/mirrors.md))"
MIRRORS = Key("mirrors", "list", "required", _MEANING)
# Of what is inside others.
INSIDE = {
    "ipam.type": "name of the IPAM plugin, as host-local",
    "runtimeConfig.mac": "MAC of the interface in the container, from the runtime",
    "runtimeConfig.bandwidth": "as bandwidth, and goes before it",
    "runtimeConfig.CNIDeviceInfoFile": "absolute path of a file to write about a vhost-user port",
    "args.cni.mac": "MAC of the interface in the container",
    "args.cni.ovnPort": "logical port of OVN that this is",
}
