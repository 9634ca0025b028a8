"""Notes of attachments whose removal has begun: between removing a port and returning its address, no port tells of it.

DEL, GC and an ADD that undoes leave a note with the bridge in the very transaction that removes the port, and take it
away when the address is returned. If they are killed in between, the next DEL of the attachment, or GC, returns the
address. ovs-vswitchd does not look at the external_ids of bridges, so this costs it nothing. DEL of an attachment
without addresses leaves no note: the runtime calls it again.
"""

from __future__ import annotations

from . import attachment as attachments
from . import jsontext
from .forms import is_utf8, tells_attachment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation
    from .vswitch import Vswitch

_PREFIX = "cni-ovs-detaching-"


def note(port_name: str, external_ids: dict[str, str]) -> dict[str, str]:
    """The note for a port with these external_ids."""
    return {_PREFIX + port_name: jsontext.encode(external_ids)}


def return_address(
    vswitch: Vswitch | None,
    port_name: str,
    invocation: Invocation,
    config: NetworkConfig,
    deadline: Deadline,
    instead: dict[str, str] | None = None,
) -> None:
    """Let the IPAM plugin return an address, and take the note away.

    Args:
        vswitch: where the note is; None if it could not be reached.
        port_name: of the attachment.
        invocation, config, deadline, instead: as for ipam.Delegate.
    """
    from . import ipam  # noqa: PLC0415 - GC of a network without addresses needs none of it

    ipam.run("DEL", invocation, config, deadline, instead)
    if vswitch is not None:
        forget(vswitch, port_name)


def forget(vswitch: Vswitch, port_name: str, *, wait: bool = True) -> None:
    """Take a note away; `wait` as for Vswitch.forget."""
    vswitch.forget([_PREFIX + port_name], wait=wait)


def notes(vswitch: Vswitch, owner_and_network: dict[str, str]) -> dict[str, dict[str, str]]:
    """What is noted for one network: by name of the port, its external_ids."""
    found = {}
    for key, text in vswitch.notes().items():
        if not key.startswith(_PREFIX):
            continue
        try:
            recorded = jsontext.decode(text.encode())
        except ValueError:
            continue  # none of ours
        if not isinstance(recorded, dict) or not all(map(_is_kept, recorded.values())):
            continue
        if not owner_and_network.items() <= recorded.items() or not tells_attachment(recorded):
            continue
        name = attachments.name_of(recorded)
        if key == _PREFIX + name:  # GC removes the device of that name
            found[name] = recorded
    return found


def _is_kept(value: object) -> bool:
    """Whether it is a text that Open vSwitch can have kept for us; the JSON in a text can have more."""
    return isinstance(value, str) and "\0" not in value and is_utf8(value)
