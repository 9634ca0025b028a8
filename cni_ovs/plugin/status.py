"""STATUS: whether an ADD would work now. It is asked several times a second, and changes nothing."""

from __future__ import annotations

from .errors import IPAM_FAILED, NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from .inspection import Inspection
from .vswitch import START_VSWITCHD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation

# containerd asks every 5 seconds and CRI-O twice a second, so a hanging Open vSwitch must be told of quickly.
_SECONDS = 0.8
_IPAM_SECONDS = 5.0


def run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Look whether an ADD would work.

    Raises:
        CniError: NOT_AVAILABLE, with what to do; or the IPAM plugin's own answer.
    """
    try:
        vswitch = Inspection(config.socket_file, deadline.shorter(_SECONDS))
        # The control socket first: an answer there makes the question for the lock superfluous.
        answering = vswitch.is_answering()
        served = answering or vswitch.is_served()
        bridge = vswitch.has_bridge(config.bridge) if config.bridge else True  # a VF's follows from its uplink
    except CniError as error:
        raise CniError(NOT_AVAILABLE, error.msg, error.details or "is ovsdb-server running?") from error
    if not served:
        raise CniError(NOT_AVAILABLE, "ovs-vswitchd is not running", START_VSWITCHD)
    if answering is False:
        raise CniError(NOT_AVAILABLE, "ovs-vswitchd does not answer", "it is stopped or overloaded; see its log")
    if bridge is None:
        raise CniError(NOT_AVAILABLE, f"ovs-vswitchd has not made bridge {config.bridge!r}", "see its log")
    if not bridge:
        create = f"create it: ovs-vsctl add-br {config.bridge}"
        raise CniError(NOT_AVAILABLE, f"bridge {config.bridge!r} does not exist in Open vSwitch", create)
    if config.ipam_type is not None:
        from . import ipam  # noqa: PLC0415 - a network without addresses needs none of it

        try:
            ipam.run("STATUS", invocation, config, deadline.shorter(_IPAM_SECONDS))
        except CniError as error:
            if error.code in (IPAM_FAILED, TRY_AGAIN_LATER):  # it is not there, or not well
                raise CniError(NOT_AVAILABLE, error.msg, error.details) from error
            raise
