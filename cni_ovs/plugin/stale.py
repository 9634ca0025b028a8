"""Stale ports: their containers are gone, and nobody has called DEL (the runtime has lost its record, say).

ADD and DEL learn with questions that they send anyway which interfaces ovs-vswitchd has no device for. Nearly always
there are none, and then nothing of this is loaded. If there are, those of the same network are removed, each only if
its namespace is provably gone. What ovs-vswitchd says of a port proves nothing: it may be a passing error of a
container that lives.
"""

from __future__ import annotations

import posix
import time

from . import at_work, devices, log
from . import attachment as attachments
from .delete import remove_rules
from .forms import tells_attachment
from .netlink import Netlink
from .netns import is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation
    from .vswitch import Port, Vswitch

# What one command spends on others' ports at most; the next one goes on.
_SECONDS = 1.0
_AT_ONCE = 4
# After so long, whoever has begun to remove a port is believed to have died, or its IPAM plugin to work again, or to be
# faster than _SECONDS. (GC has no such limit.)
_AGAIN_SECONDS = 3600


def sweep(
    vswitch: Vswitch, names: list[str], invocation: Invocation, config: NetworkConfig, deadline: Deadline
) -> None:
    """Remove stale ports of the network, and return their addresses. Never raises: it is not what we were called for.

    Args:
        vswitch: the connection.
        names: ports that may be stale, whoever's they are.
        invocation, config: for the IPAM plugin; the network is the only one that is swept.
        deadline: the command's.
    """
    try:
        _sweep(vswitch, names, invocation, config, deadline.shorter(_SECONDS))
    except Exception as error:  # noqa: BLE001 - whatever it is, the command that we were called for has succeeded
        log.warning(f"stale ports are left for later: {error}")


def _sweep(
    vswitch: Vswitch, names: list[str], invocation: Invocation, config: NetworkConfig, deadline: Deadline
) -> None:
    vswitch.use(deadline)
    # Many commands at once should not all begin with the same one.
    first = posix.urandom(1)[0] % len(names)
    names = (names[first:] + names[:first])[: 2 * _AT_ONCE]
    host, left = Netlink(), _AT_ONCE
    for port in vswitch.ports_named(names, attachments.of_network(config.name)):
        recorded = port.external_ids
        if not left or not deadline.remaining():
            break
        if not tells_attachment(recorded) or not is_gone(recorded.get("contNetns", "")):
            continue
        if port.interface_type in (*devices.MOVED, *devices.VHOST_USER):
            # The device may be there: ovs-vswitchd makes a new one when it starts. And a namespace may outlive the
            # process by which it was named.
            if recorded["contNetns"].startswith("/proc/"):
                continue
        elif host.link(port.name) is not None:
            continue
        if at_work.is_add_alive(port.name):
            continue
        now = int(time.time())
        if now - _claimed_at(recorded) < _AGAIN_SECONDS:
            continue
        if not vswitch.claim(port, {attachments.CLAIM: str(now)}):
            continue  # somebody was faster, or it is in use again
        left -= 1
        log.info(f"removing port {port.name!r}: the container {recorded['contID']} is gone")
        if config.ipam_type is not None:
            from . import ipam  # noqa: PLC0415 - a network without addresses needs none of it

            at_work.wait_for_end(port.name, deadline)
            # First the address: the row keeps a DEL or ADD of the same name waiting (wait_for_end), and an ADD may be
            # given that address again.
            ipam.run("DEL", invocation, config, deadline, instead=attachments.variables(recorded))
        devices.remove_files(port.name, recorded)
        vswitch.remove([port])
        remove_rules(vswitch, [port], config, deadline)


def wait_for_end(vswitch: Vswitch, ports: list[Port], deadline: Deadline) -> None:
    """Wait until the commands that are removing ports have done so; not longer than it may take."""
    for port in ports:
        # Half a second for what is rounded, and for the end of an IPAM plugin that is killed.
        left = _claimed_at(port.external_ids) + 1 + _SECONDS + 0.5 - time.time()
        if 0 < left < _SECONDS + 2:
            vswitch.wait_until_removed(port, deadline.shorter(left))


def _claimed_at(recorded: dict[str, str]) -> int:
    """When somebody began to remove a port (seconds since 1970), by its external_ids; 0 if nobody has."""
    text = recorded.get(attachments.CLAIM, "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else 0
