"""The one error type of the plugin, and every code it can carry.

Codes below 100 are those of the CNI specification (SPEC.md, "Error"); 100 and above are ours. The table for
users is in docs/errors.md.
"""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50

BRIDGE_NOT_FOUND = 100
PORT_REFUSED = 101
NAME_TAKEN = 102
KERNEL_REFUSED = 103
IPAM_FAILED = 104
DUPLICATE_ADDRESS = 105
CHECK_FAILED = 106
DATABASE_REFUSED = 107
FLOWS_REFUSED = 108

UNEXPECTED = 999


class CniError(Exception):
    """What the runtime is told: a code, one line for a person, and optional details.

    Args:
        code: one of the numbers above, or the code of an IPAM plugin that is passed on.
        msg: what was wrong, with its value, and where possible what to do.
        details: further lines for a person; empty if there are none.
        key: of the configuration that is wrong, as "ipam.type"; empty if it is none, or nobody needs to know.
    """

    def __init__(self, code: int, msg: str, details: str = "", key: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details
        self.key = key
