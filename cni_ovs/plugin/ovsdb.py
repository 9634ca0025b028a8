"""The OVSDB management protocol (RFC 7047): JSON-RPC over a Unix or TCP socket.

Nothing here knows what a bridge is; that is vswitch.py. Requests can be sent without waiting for the answer, which
lets ADD work while ovsdb-server does.
"""

from __future__ import annotations

import _struct
import posix
from _socket import AF_INET, AF_INET6, AF_UNIX, SO_ERROR, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from errno import EAGAIN, EINPROGRESS

from . import jsontext
from .deadline import READABLE, WRITABLE, Deadline
from .errors import DATABASE_REFUSED, TRY_AGAIN_LATER, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# No reply we ask for comes near this; a peer that sends more is no ovsdb-server.
_LARGEST_MESSAGE = 64 << 20
_SHORT = 1 << 16  # bytes, which take no time to decode


class TransactionError(CniError):
    """ovsdb-server refused a transaction.

    Attributes:
        error: the error's name (RFC 7047 section 3.1), such as "constraint violation" or "timed out".
    """

    def __init__(self, error: str, details: str) -> None:
        super().__init__(DATABASE_REFUSED, f"Open vSwitch's database refused the change: {error}", details)
        self.error = error


def unknown_form(answer: Any) -> CniError:
    """The error for an answer to a transaction that is none. It does not say that nothing was done."""
    return CniError(DATABASE_REFUSED, "Open vSwitch's database gave an answer of unknown form", jsontext.shown(answer))


class Client:
    """A connection to ovsdb-server.

    Args:
        address: "unix:PATH" or "tcp:HOST:PORT" as config.py has validated it.
        deadline: for connecting and for everything afterwards, where no other is given.

    Raises:
        CniError: TRY_AGAIN_LATER, when nobody answers there.
    """

    def __init__(self, address: str, deadline: Deadline) -> None:
        self.address = address
        self.deadline = deadline
        self._next_id = 0
        self._received = b""
        self._replies: dict[int, dict[str, Any]] = {}
        self._notifications: set[str] = set()
        family, target = _parse_address(address)
        self._socket = socket(family, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._connect(family, target)
        except OSError as error:
            self._socket.close()
            reason = "timed out" if error.errno == EAGAIN else posix.strerror(error.errno or 0)
            raise CniError(
                TRY_AGAIN_LATER,
                f"ovsdb-server cannot be reached at {address}: {reason}",
                "is ovsdb-server running, and is `socket_file` right?",
            ) from error
        except CniError:
            self._socket.close()
            raise

    def _connect(self, family: int, target: Any) -> None:
        if family == AF_UNIX:
            # It blocks while the listener's queue is full (ovsdb-server is stopped), bounded by this option. On a
            # non-blocking Unix socket it would fail at once with EAGAIN, and could not be waited for.
            left = max(self.deadline.remaining(), 0.001)
            self._socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _struct.pack("ll", int(left), int(left % 1 * 1e6)))
            self._socket.connect(target)
            self._socket.setblocking(False)
            return
        self._socket.setblocking(False)
        error = self._socket.connect_ex(target)
        if error == EINPROGRESS:
            self.deadline.wait(f"connecting to ovsdb-server at {self.address}", (self._socket.fileno(), WRITABLE))
            error = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if error:
            raise OSError(error, posix.strerror(error))

    def close(self) -> None:
        """Close the connection. ovsdb-server still carries out what was sent before."""
        self._socket.close()

    def send(self, method: str, params: list[Any]) -> int:
        """Send a request; returns its number, for `receive`.

        Raises:
            CniError: TRY_AGAIN_LATER, when the connection broke or the deadline passed.
        """
        self._next_id += 1
        self._write({"method": method, "params": params, "id": self._next_id})
        return self._next_id

    def receive(self, request: int) -> Any:
        """Wait for the answer to a request: its `result`.

        Raises:
            CniError: TRY_AGAIN_LATER as for `send`; DATABASE_REFUSED, when the answer is an error.
        """
        while request not in self._replies:
            self._read()
        reply = self._replies.pop(request)
        if reply.get("error") is not None:
            raise TransactionError("the request was not understood", jsontext.shown(reply["error"]))
        return reply.get("result")

    def call(self, method: str, params: list[Any]) -> Any:
        """`send`, then `receive`."""
        return self.receive(self.send(method, params))

    def is_notified(self, method: str, seconds: float) -> bool:
        """Whether a notification of this name, such as `locked`, has come or comes within some seconds."""
        whole = self.deadline
        self.deadline = whole.shorter(seconds)
        try:
            while method not in self._notifications and self.deadline.remaining():
                self._read()
        except CniError:
            pass  # it has not come; if the connection broke, the next request says so
        finally:
            self.deadline = whole
        return method in self._notifications

    def send_transaction(self, database: str, operations: list[dict[str, Any]]) -> int:
        """Send a transaction; returns its number, for `receive_transaction`."""
        return self.send("transact", [database, *operations])

    def receive_transaction(self, request: int) -> list[dict[str, Any]]:
        """The results of a transaction's operations, in their order.

        Raises:
            TransactionError: one of them failed, so that nothing was done.
            CniError: DATABASE_REFUSED, when these are no results; as `receive`.
        """
        results = self.receive(request)
        if not isinstance(results, list):
            raise unknown_form(results)
        for result in results:
            # An operation behind a failed one has the result null; a failed commit adds one more result.
            if isinstance(result, dict) and "error" in result:
                raise TransactionError(str(result["error"]), str(result.get("details", "")))
        return [result if isinstance(result, dict) else {} for result in results]

    def _write(self, message: dict[str, Any]) -> None:
        data = jsontext.encode(message).encode()
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                self.deadline.wait(f"sending to ovsdb-server at {self.address}", (self._socket.fileno(), WRITABLE))
            except OSError as error:
                raise self._broken(error.strerror) from error

    def _read(self) -> None:
        """Wait for more, and sort the messages that are complete."""
        self.deadline.wait(f"waiting for ovsdb-server at {self.address}", (self._socket.fileno(), READABLE))
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._broken(error.strerror) from error
        self._received += data
        if not data or len(self._received) > _LARGEST_MESSAGE:
            raise self._broken("it closed the connection" if not data else "it sent more than any answer has")
        # Messages follow each other without a separator. Each is an object, so none is complete without a brace that
        # closes it. One that comes in many parts (every port of a network) is only looked at where a part ends so.
        while b"}" in self._received and (len(self._received) < _SHORT or self._received[-16:].rstrip().endswith(b"}")):
            try:
                text = self._received.decode()
                message, end = jsontext.decode_first(text)
            except ValueError:
                return  # not complete yet; what will never be complete meets the deadline or the limit
            self._received = text[end:].encode()
            self._sort(message)
            if not self.deadline.remaining():
                return  # a hundred thousand messages take a while

    def _sort(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise self._broken("it does not speak JSON-RPC")
        if message.get("method") == "echo":
            # ovsdb-server asks whether we are still there, and drops a client that does not answer.
            self._write({"result": message.get("params"), "error": None, "id": message.get("id")})
        elif isinstance(message.get("id"), int) and "method" not in message:
            self._replies[message["id"]] = message
        elif isinstance(message.get("method"), str):
            self._notifications.add(message["method"])

    def _broken(self, reason: str | None) -> CniError:
        return CniError(TRY_AGAIN_LATER, f"the connection to ovsdb-server at {self.address} broke: {reason}")


def _parse_address(address: str) -> tuple[int, Any]:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    return (AF_INET6 if ":" in host else AF_INET), (host.strip("[]"), int(port))


def select(table: str, where: list[Any], columns: list[str]) -> dict[str, Any]:
    """The operation that reads columns of the rows that meet all conditions (RFC 7047 section 5.2.2)."""
    return {"op": "select", "table": table, "where": where, "columns": columns}


def wait(table: str, where: list[Any], until: str, row: dict[str, Any], milliseconds: int) -> dict[str, Any]:
    """The operation that waits until the rows of one condition are, or are not, like `row` (section 5.2.6)."""
    return {
        "op": "wait",
        "table": table,
        "where": where,
        "columns": list(row),
        "until": until,
        "rows": [row],
        "timeout": milliseconds,
    }


def mutate(table: str, where: list[Any], mutation: list[Any]) -> dict[str, Any]:
    """The operation that changes a column of the rows that meet all conditions (section 5.2.4)."""
    return {"op": "mutate", "table": table, "where": where, "mutations": [mutation]}


def count(table: str) -> dict[str, Any]:
    """The operation that counts the rows of a table: it changes none of their columns (section 5.2.3).

    ovsdb-server writes nothing because of it and tells nobody. (A `mutate` without mutations counts as well, but copies
    every row beforehand: 10 ms with 4,000 of them, instead of 0.2.)
    """
    return {"op": "update", "table": table, "where": [], "row": {}}


def map_of(values: dict[str, str]) -> list[Any]:
    """The notation of a map (section 5.1)."""
    return ["map", [[key, value] for key, value in values.items()]]


def set_of(value: Any) -> list[Any]:
    """The elements of a set. OVSDB writes a set of one element as that element, and any other as ["set", […]]."""
    return list(value[1]) if isinstance(value, list) else [value]


def references(value: Any) -> list[str]:
    """The UUIDs of a set of references to rows."""
    return [value[1]] if value[0] == "uuid" else [reference[1] for reference in value[1]]


def optional(value: Any) -> Any:
    """The value, or None. OVSDB writes an optional value as itself, or as the empty set when there is none."""
    return None if isinstance(value, list) else value


# Whether a value has the notation that it must have. What ovsdb-server says is checked once, and then relied on.


def is_text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def is_uuid(value: Any) -> bool:
    """A reference."""
    return _is_pair(value, "uuid") and is_text(value[1])


def is_set_of(element: Callable[[Any], bool], value: Any) -> bool:
    """A set whose elements are all of a kind."""
    return _is_elements(value[1], element) if _is_pair(value, "set") else element(value)


def is_optional(element: Callable[[Any], bool], value: Any) -> bool:
    """A value of a kind, or none."""
    return value == ["set", []] or element(value)


def is_map(value: Any) -> bool:
    """A map of strings."""
    return _is_pair(value, "map") and _is_elements(value[1], _is_text_pair)


def _is_pair(value: Any, kind: str) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] == kind


def _is_elements(value: Any, element: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(element, value))


def _is_text_pair(value: Any) -> bool:
    return _is_elements(value, is_text) and len(value) == 2
