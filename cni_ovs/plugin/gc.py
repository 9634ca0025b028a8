"""GC: remove what belongs to attachments of a network that the runtime does not know any more."""

from __future__ import annotations

from . import attachment as attachments
from . import log
from .delete import Errors, open_vswitch, remove_ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation
    from .vswitch import Port


def run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Remove the network's stale ports, their devices and addresses, then let the IPAM plugin do the same.

    Raises:
        CniError: the first error, after everything that could be done was done.
    """
    errors = Errors()
    valid = config.valid_attachments
    if valid is not None:
        errors.attempt(lambda: _remove_stale(set(valid), invocation, config, deadline, errors))
    if config.ipam_type is not None:
        from . import ipam  # noqa: PLC0415 - a network without addresses needs none of it

        errors.attempt(lambda: ipam.run("GC", invocation, config, deadline))
    errors.raise_first()


def _remove_stale(
    valid: set[tuple[str, str]], invocation: Invocation, config: NetworkConfig, deadline: Deadline, errors: Errors
) -> None:
    vswitch = open_vswitch(config, deadline)
    for port in vswitch.ports_of_network(attachments.of_network(config.name)):
        recorded = port.external_ids
        if "contID" not in recorded or "contIface" not in recorded:
            log.warning(f"port {port.name!r} does not say whose it is; it is left alone")
            continue
        if (recorded["contID"], recorded["contIface"]) in valid:
            continue
        log.info(f"removing port {port.name!r} of container {recorded['contID']}, interface {recorded['contIface']}")
        removed = errors.attempt(lambda port=port: remove_ports(vswitch, [port], deadline))  # type: ignore[misc] # defaults bind
        if removed and config.ipam_type is not None:
            errors.attempt(lambda port=port: _release(port, invocation, config, deadline))  # type: ignore[misc] # likewise


def _release(port: Port, invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Return the address of one attachment: IPAM plugins before CNI 1.1 do not know GC, and host-local ignores it."""
    from . import ipam  # noqa: PLC0415 - see run

    ipam.run("DEL", invocation, config, deadline, instead=attachments.variables(port.external_ids))
