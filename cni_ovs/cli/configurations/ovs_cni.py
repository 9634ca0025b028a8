"""What becomes of the keys and arguments of ovs-cni: the first table of docs/ovs-cni.md, with which a test compares it.

What ovs-cni does is from its source (pkg/types/types.go, pkg/common/common.go).
"""

from __future__ import annotations

# Key or argument of ovs-cni, and what it is here.
ROWS = {
    "`bridge`": "the same",
    "no `bridge`, but an OVN port": "the same: `br-int`",
    "no `bridge`, but `deviceID`": "the same: the bridge that has the uplink, its bond, or a member of that",
    "`vlan`": "the same",
    "`trunk`": "the same; `minID` 0 and a lone `minID`, which ovs-cni ignores, are taken as meant, and refused",
    "`vlan` with `trunk`": "a trunk with a native VLAN; ovs-cni drops `vlan`",
    "`mtu`": "the same, and for an internal port that lasts (`mtu_request`)",
    '`interface_type` `""`, `system`, `internal`': "the same; an internal port keeps its name, see below",
    "`interface_type` `tap`, `dpdkvhostuserclient`, `dpdkvhostuser`": (
        "a tap in the container, a vhost-user port; ovs-cni has neither"
    ),
    "`interface_type` with anything else": "refused, naming what is allowed",
    "`interface_type` `veth`": "the same as none; with ovs-cni such a port never works",
    "`ofport_request`": "the same",
    "`deviceID`": "the same; `pciID` in the result of 1.1.0, and a MAC and an MTU that DEL takes back",
    "`deviceID` of a VF that is bound to vfio-pci": (
        "the same: only the representor is attached; a MAC is refused, not ignored"
    ),
    "`deviceID` with `interface_type` `internal`": "refused",
    "`configuration_path` and the usual flat files": (
        "the same; refused if others than root can write to it, or if the named one is missing;"
        " IPAM gets its values too"
    ),
    "`socket_file`": "the same, `tcp:` too",
    "`link_state_check_retries`, `link_state_check_interval`": (
        "accepted; together they bound the wait, which no longer is for whole intervals"
    ),
    "`ipam`, `dns`": "the same",
    "`MAC` in CNI_ARGS, `runtimeConfig.mac`": "the same; `args.cni.mac` too",
    "`OvnPort` in CNI_ARGS, `args.cni.ovnPort`": "the same; ADD also waits until OVN forwards",
    "`K8S_POD_UID` in CNI_ARGS": "`external_ids:contPodUid`, the same; name and namespace too",
    "`ovs-mirror-producer`, `ovs-mirror-consumer`: `mirrors`": (
        "the same; a producer without direction is refused; the addresses stay in the result"
    ),
}
RENAMED = "keeps its name, CNI_IFNAME is its alternative name: a renamed one is destroyed when the next port is added"
# Keys of ours that ovs-cni reads, too; the others it ignores.
THEIRS = {
    *("cniVersion", "name", "type", "prevResult", "args", "runtimeConfig", "capabilities", "ipam", "dns", "mirrors"),
    *("bridge", "vlan", "mtu", "trunk", "deviceID", "ofport_request", "interface_type", "configuration_path"),
    *("socket_file", "link_state_check_retries", "link_state_check_interval"),
}
# Of a key, or of one with these values: what differs, though nothing has to be changed.
DIFFERENCES: list[tuple[str, tuple[str, ...], str]] = [
    ("interface_type", ("internal",), RENAMED),
    (
        "interface_type",
        ("tap", "dpdkvhostuserclient", "dpdkvhostuser"),
        ROWS["`interface_type` `tap`, `dpdkvhostuserclient`, `dpdkvhostuser`"],
    ),
    ("interface_type", ("veth",), ROWS["`interface_type` `veth`"]),
    ("deviceID", (), ROWS["`deviceID`"]),
    ("configuration_path", (), ROWS["`configuration_path` and the usual flat files"]),
    ("link_state_check_retries", (), ROWS["`link_state_check_retries`, `link_state_check_interval`"]),
    ("link_state_check_interval", (), ROWS["`link_state_check_retries`, `link_state_check_interval`"]),
    ("mirrors", (), ROWS["`ovs-mirror-producer`, `ovs-mirror-consumer`: `mirrors`"]),
]
