"""JSON to and from Python objects, without the price of importing `json`.

`json` is a thin layer over the C module `_json`, but importing it compiles regular expressions and loads `re`,
`enum` and `functools`: more time than an attachment takes (docs/design.md). So this calls the C part itself, and
the tests compare it with `json` on generated input. Where that private module has changed its form, `json`
serves (not in the frozen plugin: build/ovs.spec would refuse to freeze it).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_INFINITY = float("inf")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (_INFINITY, -_INFINITY):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


class _Settings:
    """What the C scanner reads from its `context` argument (json.decoder.JSONDecoder has the same attributes)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = staticmethod(_parse_float)
    parse_int = int
    parse_constant = staticmethod(_refuse)
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner only asks for its presence


def _unknown(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_scan: Callable[[str, int], tuple[Any, int]]
_encode: Callable[[Any, int], tuple[str, ...]]
try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan = make_scanner(_Settings())  # type: ignore[arg-type] # it reads attributes, whatever the class
    # Arguments: markers (None: nothing we write is circular), default, encoder, indent, separators, sort_keys,
    # skipkeys, allow_nan.
    _encode = make_encoder(None, _unknown, encode_basestring_ascii, None, ": ", ", ", False, False, False)
except (ImportError, TypeError, AttributeError):
    import json

    _scan = json.JSONDecoder(parse_float=_parse_float, parse_constant=_refuse).raw_decode
    _encode = json.JSONEncoder(allow_nan=False, check_circular=False).iterencode  # type: ignore[assignment] # an iterator


def decode_first(text: str) -> tuple[Any, int]:
    """The JSON value at the start of `text`, and the position behind it.

    Raises:
        ValueError: there is none (JSONDecodeError is a ValueError), or it is nested too deeply.
    """
    start = len(text) - len(text.lstrip(" \t\n\r"))
    try:
        return _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"expected a value at character {stop.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:
        # Python 3.11 takes JSONDecodeError from `json.decoder` without importing it, and finds nothing to raise.
        import json.decoder  # noqa: F401, PLC0415 - only to say what is wrong with a wrong text

        return _scan(text, start)


def decode(data: bytes) -> Any:
    """The value of a whole JSON text in UTF-8.

    Raises:
        ValueError: it is not UTF-8 (UnicodeDecodeError is a ValueError), not JSON, or has something behind it.
    """
    text = data.decode("utf-8")
    value, end = decode_first(text)
    if text[end:].strip(" \t\n\r"):
        raise ValueError(f"unexpected text behind the value, at character {end}")
    return value


def encode(value: Any) -> str:
    """The JSON text of a value, in ASCII, on one line."""
    return "".join(_encode(value, 0))
