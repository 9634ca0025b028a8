"""JSON (RFC 8259) to and from Python objects, without the price of importing `json`.

`json` loads `re`, `enum` and `functools` and compiles regular expressions: more time than an attachment takes
(docs/design.md). The C module under it is a shared library of its own, which takes longer to load than this takes for
the few hundred bytes of a configuration. The price is that long texts take five times as long: 65 ms for the answer
with 4,000 ports that GC may get. The tests compare every text and value with `json` on generated input.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHITE = " \t\n\r"
_DIGITS = "0123456789"
_HEXADECIMAL = "0123456789abcdefABCDEF"
_INFINITY = float("inf")
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_NO_JSON = ("NaN", "Infinity", "-Infinity")  # which `json` reads and writes
_UNESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def decode(data: bytes) -> Any:
    """The value of a whole JSON text in UTF-8.

    Raises:
        ValueError: it is not UTF-8, not JSON, or has something behind it.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong("what is not UTF-8", data[: error.start].decode("utf-8"), error.start) from None
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark")
    value, end = decode_first(text)
    rest = text[end:].lstrip(_WHITE)
    if rest:
        raise _wrong("unexpected text behind the value", text, len(text) - len(rest))
    return value


def decode_first(text: str) -> tuple[Any, int]:
    """The JSON value at the start of `text`, and the position behind it.

    Raises:
        ValueError: there is none, or it is nested too deeply.
    """
    try:
        return _value(text, _skip(text, 0))
    except IndexError:
        raise _wrong("the text ends too early", text, len(text)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def encode(value: Any) -> str:
    """The JSON text of a value, in ASCII, on one line.

    Raises:
        ValueError: it is, or has in it, a number that JSON does not have.
        TypeError: it is, or has in it, an object that JSON does not have.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{_quoted(key)}: {encode(inner)}" for key, inner in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([encode(inner) for inner in value]) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    if not -_INFINITY < value < _INFINITY:
        raise ValueError(f"{value} is not JSON")
    return repr(value)


# Each of the following takes a text and a position, and returns what it found there and the position behind it. Reading
# behind the end is an IndexError, which decode_first turns into words.


def shown(value: Any) -> str:
    """A value as JSON for a message, shortened if it is long."""
    try:
        text = encode(value)
    except RecursionError:
        return "a value that is nested too deeply"
    return text if len(text) <= 100 else text[:97] + "..."


def _value(text: str, at: int) -> tuple[Any, int]:
    first = text[at]
    if first == '"':
        return _string(text, at + 1)
    if first == "{":
        return _object(text, at + 1)
    if first == "[":
        return _array(text, at + 1)
    if first in _WORDS:
        word, value = _WORDS[first]
        if text.startswith(word, at):
            return value, at + len(word)
    for word in _NO_JSON:
        if text.startswith(word, at):
            raise ValueError(f"{word} is not JSON")
    return _number(text, at)


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at)
    if text[at] == "}":
        return found, at + 1
    while True:
        if text[at] != '"':
            raise _wrong("expected a name in double quotes", text, at)
        key, at = _string(text, at + 1)
        at = _skip(text, at)
        if text[at] != ":":
            raise _wrong("expected ':'", text, at)
        found[key], at = _value(text, _skip(text, at + 1))
        at = _skip(text, at)
        if text[at] == "}":
            return found, at + 1
        if text[at] != ",":
            raise _wrong("expected ',' or '}'", text, at)
        at = _skip(text, at + 1)


def _array(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at)
    if text[at] == "]":
        return found, at + 1
    while True:
        value, at = _value(text, at)
        found.append(value)
        at = _skip(text, at)
        if text[at] == "]":
            return found, at + 1
        if text[at] != ",":
            raise _wrong("expected ',' or ']'", text, at)
        at = _skip(text, at + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    quote = text.find('"', at)
    while quote >= 0:
        backslash = text.find("\\", at, quote)
        part = text[at : backslash if backslash >= 0 else quote]
        if not part.isprintable() and any(character < " " for character in part):
            raise _wrong("a control character in a string", text, at)
        if backslash < 0:
            return "".join(parts) + part, quote + 1
        character, at = _escape(text, backslash + 1)
        parts += part, character
        if at > quote:  # that one was escaped
            quote = text.find('"', at)
    raise _wrong("a string without an end", text, len(text))


def _escape(text: str, at: int) -> tuple[str, int]:
    if text[at] != "u":
        if text[at] not in _UNESCAPED:
            raise _wrong("an unknown escape in a string", text, at)
        return _UNESCAPED[text[at]], at + 1
    code = _code_unit(text, at + 1)
    at += 5
    # A character beyond the 65,536 first is written as two halves.
    if 0xD800 <= code < 0xDC00 and text.startswith("\\u", at):
        low = _code_unit(text, at + 2)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + (code - 0xD800 << 10) + (low - 0xDC00)), at + 6
    return chr(code), at


def _code_unit(text: str, at: int) -> int:
    digits = text[at : at + 4]
    if len(digits) < 4 or not all(digit in _HEXADECIMAL for digit in digits):
        raise _wrong("expected four hexadecimal digits", text, at)
    return int(digits, 16)


def _number(text: str, at: int) -> tuple[int | float, int]:
    start = at
    if text[at] == "-":
        at += 1
    if text[at] not in _DIGITS:
        raise _wrong("expected a value", text, start)
    end = at + 1 if text[at] == "0" else _skip_digits(text, at)
    whole = end
    for mark, signs in ((".", ""), ("eE", "+-")):
        at = end
        if text[at : at + 1] and text[at] in mark:
            at += 2 if text[at + 1 : at + 2] and text[at + 1] in signs else 1
            if text[at : at + 1] and text[at] in _DIGITS:
                end = _skip_digits(text, at)
    if end == whole:
        return int(text[start:end]), end
    value = float(text[start:end])
    if value in (_INFINITY, -_INFINITY):
        raise ValueError(f"the number {text[start:end][:20]} is out of range")
    return value, end


def _skip_digits(text: str, at: int) -> int:
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    return at


def _skip(text: str, at: int) -> int:
    """The position behind white space."""
    while text[at] in _WHITE:
        at += 1
    return at


def _wrong(what: str, text: str, at: int) -> ValueError:
    """The error, with its place as editors count it."""
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return ValueError(f"{what}: line {line} column {column}")


def _quoted(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} cannot be a name in JSON")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_escaped(character) for character in text]) + '"'


def _escaped(character: str) -> str:
    if " " <= character <= "~":
        return _ESCAPED.get(character, character)
    if character in _ESCAPED:
        return _ESCAPED[character]
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
