"""GC: remove what belongs to attachments of a network that the runtime does not know any more."""

from __future__ import annotations

from . import at_work, detaching, devices, log
from . import attachment as attachments
from .delete import Errors, open_vswitch, remove_ports, remove_rules
from .forms import tells_attachment
from .netlink import Netlink

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
    of_network = attachments.of_network(config.name)
    limits = vswitch.limits_of_network(of_network)  # before the ports: an ADD inserts both at once
    ports = vswitch.ports_of_network(of_network)

    # One time for all, or a few IPAM plugins that killed ADDs have left and that hang would use it up.
    patience = deadline.shorter(deadline.remaining() / 2)

    def is_free(name: str) -> bool:
        """Whether nobody is at work; GC is later than what the runtime knew when it called."""
        if at_work.is_add_alive(name):
            log.info(f"an ADD is at work on port {name!r}; it is left for the next GC")
            return False
        at_work.wait_for_end(name, patience)
        vswitch.use(deadline.shorter(deadline.remaining() / 2))
        return True

    def release(name: str, recorded: dict[str, str]) -> None:
        vswitch.use(deadline)
        if config.ipam_type is None:
            detaching.forget(vswitch, name)
            return
        # IPAM plugins before CNI 1.1 do not know GC, and host-local ignores it.
        variables = attachments.variables(recorded)
        detaching.return_address(vswitch, name, invocation, config, deadline, variables)

    def remove(port: Port) -> None:
        name = attachments.name_of(port.external_ids)  # the port's, unless it is that of a VF
        if not is_free(name):
            return
        # A note also of an attachment without addresses: if its device cannot be removed now, the next GC knows of it.
        if remove_ports(vswitch, [port], deadline, notes=detaching.note(name, port.external_ids)):
            errors.attempt(remove_rules, vswitch, [port], config, deadline)
            release(name, port.external_ids)

    def finish(name: str, recorded: dict[str, str]) -> None:
        attachment = attachments.identity(config.name, recorded["contID"], recorded["contIface"])
        if not is_free(name) or vswitch.ports_of_network(attachment):
            return  # it has just been attached anew
        devices.remove_files(name, recorded)
        devices.of("veth").destroy(Netlink(), name)
        release(name, recorded)

    for port in ports:
        recorded = port.external_ids
        if not tells_attachment(recorded):
            log.warning(f"port {port.name!r} does not say whose it is; it is left alone")
            continue
        if (recorded["contID"], recorded["contIface"]) in valid:
            continue
        log.info(f"removing port {port.name!r} of container {recorded['contID']}, interface {recorded['contIface']!r}")
        errors.attempt(remove, port)
    with_ports = [attachments.identity_of(port.external_ids) for port in ports]
    for identity in map(attachments.identity_of, limits):
        if identity is not None and identity not in with_ports:  # somebody else has removed the port alone
            errors.attempt(vswitch.remove_limits, identity)
    if config.checks_spoofing:
        from . import spoofing  # noqa: PLC0415 - start-up time, for a network without rules

        errors.attempt(lambda: spoofing.sweep(vswitch, config, deadline.shorter(deadline.remaining() / 2)))
    known = {attachments.name_of(port.external_ids) for port in ports if tells_attachment(port.external_ids)}
    for name, recorded in detaching.notes(vswitch, of_network).items():
        if name in known:
            # It was attached anew, and has perhaps the same address; or removing it has just failed.
            if (recorded["contID"], recorded["contIface"]) in valid:
                detaching.forget(vswitch, name)
        elif (recorded["contID"], recorded["contIface"]) not in valid:
            log.info(f"finishing the removal of container {recorded['contID']}, interface {recorded['contIface']!r}")
            errors.attempt(finish, name, recorded)
