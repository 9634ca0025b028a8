"""The doctor's checks, one small function each, in the order in which they are made.

A new check is a function that yields findings, the problems that it can find as constants beside it, a line in its
file's CHECKS, and, by `pytest tests/unit/test_cli_doctor.py --write-docs`, in docs/doctor.md.
"""

from __future__ import annotations

from . import (
    addresses,
    attachments,
    bridges,
    changes,
    configurations,
    container,
    doubles,
    installation,
    leftovers,
    openvswitch,
    uplinks,
)

CHECKS = (
    *openvswitch.CHECKS,
    *bridges.CHECKS,
    *uplinks.CHECKS,
    *attachments.CHECKS,
    *changes.CHECKS,
    *doubles.CHECKS,
    *leftovers.CHECKS,
    *container.CHECKS,
    *addresses.CHECKS,
    *configurations.CHECKS,
    *installation.CHECKS,
)
