"""Bytes turned into choices, and values damaged by choices. The same bytes always give the same."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# What a value may become: of another kind, out of range, or with what breaks texts, paths, variables and addresses.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 4095, 65536, 1 << 31, 1 << 32, 1 << 70, 10**300, 1.5, -0.0, 1e300),
    *("", "x", ".", "..", "/", "a/../b", "--help", "-n", "\0", "a\nb", "\ud800", "\udcff", "ü𝄞", 'quo"te\\', "x" * 300),
    *("10.0.0.2/8", "10.0.0.2/33", "fd00::1/64", "::ffff:1.2.3.4/128", "10.0.0.1", "fe80::1%lo", "02:00:00:00:00:01"),
    *("0.1.0", "0.2.0", "0.3.0", "0.4.0", "1.0.0", "1.1.0", "internal", "veth", "owner", "cni-ovs", "y" * 140_000),
    *([], {}, [[]], [{}], ["set", []], ["set", [1, 2]], ["map", []], ["map", [["a", "b"]]], ["uuid", "x"], ["named"]),
)


class Source:
    """Choices made by bytes. When these are used up, every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        """Begins at the start of the bytes."""
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next bytes, so many if there are."""
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        """All the bytes that are left."""
        return self.take(len(self._data))

    def below(self, count: int) -> int:
        """A number from 0 to count - 1."""
        return int.from_bytes(self.take(1 if count <= 256 else 2), "big") % count

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def text(self) -> str:
        """A short text; what is no UTF-8 in it is as Python reads it from the environment."""
        return self.take(self.below(40)).decode("utf-8", "surrogateescape")


def damaged(value: Any, source: Source) -> Any:
    """A JSON value like this one, with up to four changes."""
    root = [copy.deepcopy(value)]
    for _ in range(source.below(5)):
        places = places_in(root)[: 1 << 16]
        container, key = source.pick(places)
        match source.below(8):
            case 0:
                container[key] = source.text()
            case 1:
                other, where = source.pick(places)
                container[key] = copy.deepcopy(other[where])
            case 2:
                container[key] = source.below(1 << 16)
            case 3 if container is not root:
                del container[key]
            case 4 if isinstance(container, dict):
                container[source.pick([str(key).upper(), f"{key}x", "name", ""])] = container[key]
            case 5 if isinstance(container[key], str):
                container[key] += source.text()
            case _:
                container[key] = copy.deepcopy(source.pick(ODD))
    return root[0]


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON value with every key or index in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in ((value, key), *places_in(item))]
