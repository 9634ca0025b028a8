"""Who is being attached: one interface of one container to one network, and what follows from that."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import NetworkConfig
    from .protocol import Invocation

OWNER = "cni-ovs"
_PATH_LENGTH = 4096  # PATH_MAX of Linux
_NAME_LENGTH = 15  # of `port_name`
# Everything that the plugin records in a port's external_ids.
POD_IDS = ("contPodUid", "contPodName", "contPodNamespace")
CLAIM = "contStale"  # since when somebody is removing it because its container is gone (stale.py)
RATE_LIMITER = "contRateLimiter"  # what DEL has to remove besides port and device (bandwidth.py): one of these
QOS_ROW, IFB = "qos", "ifb"
FLOWS = "contFlows"  # the bridge that has OpenFlow rules for the port (spoofing.py)
BY_HAND = "cniOvsAttach"  # with what `cni-ovs attach` made it; no runtime knows of it, so GC leaves it alone
SOCKET, DEVICE_INFO = "contSocketPath", "contDeviceInfoFile"  # the files of a vhost-user port
# Of a VF, and how it and its representor were found (devices/vf.py).
DEVICE = "contDeviceID"
VF_IDS = (DEVICE, "contVfName", "contVfKind", "contVfMac", "contVfMtu", "contRepresentorMtu", "contRepresentorState")
RECORDED_IDS = (
    *("owner", "contNetwork", "contID", "contIface", "contNetns"),
    *(CLAIM, RATE_LIMITER, FLOWS, SOCKET, DEVICE_INFO, *POD_IDS, *VF_IDS),
)


class Attachment:
    """One interface of one container on one network.

    Attributes:
        network: name of the network (the configuration's `name`).
        container_id, ifname, netns: CNI_CONTAINERID, CNI_IFNAME and CNI_NETNS; the latter may be empty in DEL.
        port_name: name of the port on the bridge, and of the device in the host's namespace.
        identity: the external_ids that say whose the port is; they are enough to find it.
        external_ids: all that is recorded with the port; its device may add to it before that is written.
    """

    __slots__ = ("container_id", "external_ids", "identity", "ifname", "netns", "network", "port_name")

    def __init__(self, network: str, container_id: str, ifname: str, netns: str, pod: dict[str, str]) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname
        self.netns = netns
        self.port_name = port_name(network, container_id, ifname)
        self.identity = identity(network, container_id, ifname)
        self.external_ids = {**self.identity, "contNetns": netns, **pod}


def of(invocation: Invocation, config: NetworkConfig) -> Attachment:
    """The attachment that an invocation is about."""
    return Attachment(config.name, invocation.container_id, invocation.ifname, invocation.netns, config.pod)


def with_port(attachment: Attachment, name: str) -> Attachment:
    """The same attachment, whose port has another name. What is recorded with it is recorded for both."""
    other = Attachment(attachment.network, attachment.container_id, attachment.ifname, attachment.netns, {})
    other.port_name = name
    other.external_ids = attachment.external_ids
    return other


def of_network(network: str) -> dict[str, str]:
    """The external_ids that every port of a network has."""
    return {"owner": OWNER, "contNetwork": network}


def identity(network: str, container_id: str, ifname: str) -> dict[str, str]:
    """The external_ids that exactly one attachment has. The names are those that ovs-cni uses, where it has one."""
    return {**of_network(network), "contID": container_id, "contIface": ifname}


def identity_of(recorded: dict[str, str]) -> dict[str, str] | None:
    """The identity in external_ids; None if it is not whole, and may be that of several."""
    if recorded.get("owner") != OWNER or not all(recorded.get(key) for key in ("contNetwork", "contID", "contIface")):
        return None
    return identity(recorded["contNetwork"], recorded["contID"], recorded["contIface"])


def variables(recorded: dict[str, str]) -> dict[str, str]:
    """The CNI variables of the attachment that a port's external_ids tell of; `contID` and `contIface` are in them."""
    netns = recorded.get("contNetns", "")
    return {
        "CNI_CONTAINERID": recorded["contID"],
        "CNI_IFNAME": recorded["contIface"],
        "CNI_NETNS": netns if len(netns) < _PATH_LENGTH else "",
        "CNI_ARGS": "",
    }


def name_of(recorded: dict[str, str]) -> str:
    """What `port_name` makes of the attachment that external_ids tell of: signs and notes are called so."""
    return port_name(recorded.get("contNetwork", ""), recorded["contID"], recorded["contIface"])


def is_port_name(name: str) -> bool:
    """Whether a name is like those that `port_name` makes."""
    return len(name) == _NAME_LENGTH and name.startswith("cni")


def port_name(network: str, container_id: str, ifname: str) -> str:
    """`cni` and twelve hexadecimal digits that follow from the attachment alone.

    So a repeated ADD, a DEL without any record and a person reading `ovs-vsctl show` find the same port. The digits
    are FNV-1a (64 bits, folded to 48): among 10,000 ports on a node two are the same once in 5 million nodes, and then
    the second ADD fails with an error. A cryptographic hash would cost loading a library.
    """
    value = 0xCBF29CE484222325
    for byte in "\0".join((network, container_id, ifname)).encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"cni{(value ^ value >> 48) & 0xFFFFFFFFFFFF:012x}"
