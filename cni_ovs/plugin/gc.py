"""GC: remove what belongs to attachments of a network that the runtime does not know any more."""

from __future__ import annotations

from . import at_work, detaching, devices, log
from . import attachment as attachments
from .delete import Errors, open_vswitch, remove_ports, remove_rules
from .errors import CniError
from .forms import tells_attachment
from .netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation
    from .vswitch import Port, Vswitch


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
    removal = Removal(vswitch, invocation, config, deadline, errors)
    for port in ports:
        recorded = port.external_ids
        if not tells_attachment(recorded):
            log.warning(f"port {port.name!r} does not say whose it is; it is left alone")
            continue
        if (recorded["contID"], recorded["contIface"]) in valid or attachments.BY_HAND in recorded:
            continue
        log.info(f"removing port {port.name!r} of container {recorded['contID']}, interface {recorded['contIface']!r}")
        errors.attempt(removal.remove, port)
    for identity in without_ports(limits, ports):
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
        elif (recorded["contID"], recorded["contIface"]) not in valid and attachments.BY_HAND not in recorded:
            log.info(f"finishing the removal of container {recorded['contID']}, interface {recorded['contIface']!r}")
            errors.attempt(removal.finish, name, recorded)


def without_ports(limits: list[dict[str, str]], ports: list[Port]) -> list[dict[str, str]]:
    """The attachments that have QoS or Queue rows and no port: somebody else has removed the port alone.

    Args:
        limits: external_ids of the rows.
        ports: read after those.
    """
    with_ports = [attachments.identity_of(port.external_ids) for port in ports]
    found: list[dict[str, str]] = []
    for identity in map(attachments.identity_of, limits):
        if identity is not None and identity not in with_ports and identity not in found:
            found.append(identity)
    return found


class Removal:
    """Removes attachments whose containers are gone, each unless an ADD is at work on it.

    Args:
        vswitch: where they are.
        invocation, config: for the IPAM plugin.
        deadline: for all of them.
        errors: takes those after which more can still be done.
    """

    def __init__(
        self, vswitch: Vswitch, invocation: Invocation, config: NetworkConfig, deadline: Deadline, errors: Errors
    ) -> None:
        self._vswitch = vswitch
        self._invocation = invocation
        self._config = config
        self._deadline = deadline
        self._errors = errors
        # One time for all, or a few IPAM plugins that killed ADDs have left and that hang would use it up.
        self._patience = deadline.shorter(deadline.remaining() / 2)

    def remove(self, port: Port) -> bool:
        """Remove a port and what belongs to it; False if it has changed since it was read, or an ADD is at work."""
        recorded = port.external_ids
        name = attachments.name_of(recorded)  # the port's, unless it is that of a VF

        def remove() -> bool:
            # A note also of an attachment without addresses: if its device cannot be removed now, the next GC knows of
            # it.
            if not remove_ports(self._vswitch, [port], self._deadline, notes=detaching.note(name, recorded)):
                return False
            self._errors.attempt(remove_rules, self._vswitch, [port], self._config, self._deadline)
            self._release(name, recorded)
            return True

        return self._alone(name, remove)

    def finish(self, name: str, recorded: dict[str, str]) -> bool:
        """Do what a note tells of; False if the attachment is there again, or an ADD is at work."""
        attachment = attachments.identity(recorded["contNetwork"], recorded["contID"], recorded["contIface"])

        def finish() -> bool:
            if self._vswitch.ports_of_network(attachment):
                return False  # it has just been attached anew
            devices.remove_files(name, recorded)
            devices.of("veth").destroy(Netlink(), name)
            self._release(name, recorded)
            return True

        return self._alone(name, finish)

    def _alone(self, name: str, step: Callable[[], bool]) -> bool:
        """Carry out a step while nobody else is at work; GC is later than what the runtime knew when it called.

        An ADD that begins meanwhile is refused: its address would be returned under it.
        """
        try:
            # As long as any other command waits for an IPAM plugin that a killed ADD has left, and no longer.
            sign = at_work.begin(name, self._patience.shorter(at_work.SECONDS))
        except CniError:
            log.info(f"an ADD is at work on port {name!r}; it is left for the next GC")
            return False
        try:
            self._vswitch.use(self._deadline.shorter(self._deadline.remaining() / 2))
            return step()
        finally:
            if sign is not None:
                at_work.end(sign)

    def _release(self, name: str, recorded: dict[str, str]) -> None:
        self._vswitch.use(self._deadline)
        if self._config.ipam_type is None:
            detaching.forget(self._vswitch, name)
            return
        # IPAM plugins before CNI 1.1 do not know GC, and host-local ignores it.
        variables = attachments.variables(recorded)
        detaching.return_address(self._vswitch, name, self._invocation, self._config, self._deadline, variables)
