"""JSON as the standard library's `json` reads it: what the plugin's own reader is compared with."""

from __future__ import annotations

import json
import math
from typing import Any


def decode(data: bytes) -> Any:
    """The value, without the constants and numbers that JSON does not have.

    Raises:
        ValueError, RecursionError: it is none.
    """

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    def number(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse(text)

    return json.loads(data.decode("utf-8"), parse_constant=refuse, parse_float=number)
