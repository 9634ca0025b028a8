"""A go-between for ovsdb-server: questions are passed on to it, and changes are tried out there and given up.

A transaction that ends with the operation `abort` (RFC 7047 section 5.2.9) is carried out as any other, and then
nothing of it is done. So ovsdb-server itself says what it would answer, and refuses what it would refuse, but for what
it checks at the very end (that names are unique, say). What would follow from a change, such as a port's OpenFlow
number, is made up here.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.ovsdb import Client, TransactionError, unknown_form
from cni_ovs.plugin.vswitch import NOT_MET, select_suspects, suspects

_QUESTIONS = ("select", "wait", "comment", "assert")
_LOCK = "ovs_vswitchd"  # ovs-vswitchd has it as long as it lives
_LOCK_SECONDS = 0.03
_PAUSE = 0.0002

Operation = dict[str, Any]


def changes(operations: list[Operation]) -> bool:
    """Whether a transaction would change something; an update of no column is how the plugin counts rows."""
    return any(
        operation["op"] not in _QUESTIONS and not (operation["op"] == "update" and not operation["row"])
        for operation in operations
    )


class Upstream(Protocol):
    """What answers in the end."""

    def call(self, method: str, params: list[Any]) -> Any:
        """The result of a request; CniError as ovsdb.Client."""

    def is_served(self) -> bool:
        """Whether an ovs-vswitchd is running on it."""


class Server:
    """A real ovsdb-server.

    Raises:
        CniError: nobody answers there.
    """

    def __init__(self, address: str, deadline: Deadline) -> None:
        self._client = Client(address, deadline)

    def call(self, method: str, params: list[Any]) -> Any:
        """As Upstream."""
        return self._client.call(method, params)

    def is_served(self) -> bool:
        """As Vswitch.is_served: asking for the lock writes nothing."""
        answer = self.call("lock", [_LOCK])
        held = answer == {"locked": False} and not self._client.is_notified("locked", _LOCK_SECONDS)
        self.call("unlock", [_LOCK])
        return held


class Pretended:
    """An Open vSwitch that is not there: one bridge without ports, and everything that a configuration can need.

    Args:
        bridge: its name.
        datapath_type: "system" or "netdev".
    """

    def __init__(self, bridge: str, datapath_type: str) -> None:
        nothing = ["set", []]
        self._rows: dict[str, dict[str, Any]] = {
            "Bridge": {
                "name": bridge,
                "datapath_type": datapath_type,
                "datapath_id": "0000000000000001",
                "controller": nothing,
                "fail_mode": nothing,
                "external_ids": ["map", []],
            },
            "Open_vSwitch": {
                "next_cfg": 0,
                "cur_cfg": 0,
                "external_ids": ["map", []],
                "dpdk_initialized": True,
                "other_config": ["map", [["vlan-limit", "0"]]],
                "iface_types": ["set", ["dpdkvhostuser", "dpdkvhostuserclient", "internal", "system", "tap"]],
            },
        }

    def call(self, method: str, params: list[Any]) -> Any:
        """As Upstream."""
        if method != "transact":
            return {}
        return [self._result(operation) for operation in params[1:]]

    def is_served(self) -> bool:
        """As Upstream."""
        return True

    def _result(self, operation: Operation) -> dict[str, Any]:
        if operation["op"] == "select":
            row = self._rows.get(operation["table"])
            here = row is not None and all(_meets(row, condition) for condition in operation["where"])
            return {"rows": [{column: row[column] for column in operation["columns"]}] if here and row else []}
        if operation["op"] == "insert":
            return {"uuid": ["uuid", operation.get("uuid") or str(uuid.uuid4())]}
        if operation["op"] == "abort":
            return {"error": "aborted"}
        return {} if operation["op"] == "wait" else {"count": int(operation["op"] == "mutate")}


def _meets(row: dict[str, Any], condition: list[Any]) -> bool:
    column, function, value = condition
    return bool(function == "==" and row.get(column) == value)


class Follower(Protocol):
    """Who does what ovs-vswitchd would do."""

    number: int
    """The OpenFlow number that a new port gets."""

    def insert(self, operations: list[Operation]) -> None:
        """New rows are there: make the device, where it is ovs-vswitchd's."""

    def take(self) -> None:
        """The device is there: make what goes with it."""


class GoBetween:
    """Listens for the plugin until the process ends.

    Args:
        path: of the Unix socket.
        upstream: where questions are answered.
        follower: does what ovs-vswitchd would do.
        record: is told of the operations of every transaction, in their order.

    Attributes:
        failure: why a connection was closed, if the upstream is the reason.
        suspects: ports that ADD would look at besides, because their containers may be gone. It is not told of them.
    """

    def __init__(
        self, path: str, upstream: Upstream, follower: Follower, record: Callable[[list[Operation]], None]
    ) -> None:
        self.failure: CniError | None = None
        self.suspects: set[str] = set()
        self._upstream = upstream
        self._follower = follower
        self._record = record
        self._lock = threading.Lock()  # is held by whoever handles a message
        self._connections: list[socket.socket] = []
        self._inserted: set[str] = set()  # names of interfaces
        self._configured: int | None = None  # what cur_cfg would be
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def settle(self) -> None:
        """Return when everything that was sent is recorded."""
        while True:
            with self._lock:
                poll = select.poll()
                for connection in self._connections:
                    poll.register(connection, select.POLLIN)
                if not poll.poll(0):
                    return
            time.sleep(_PAUSE)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        while True:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            poll.poll()
            with self._lock:
                try:
                    data = connection.recv(1 << 18)
                    messages, received = _messages(received + data)
                    for message in messages:
                        connection.sendall(json.dumps(self._reply(message)).encode())
                except CniError as error:
                    data, self.failure = b"", error
                except (LookupError, TypeError, AttributeError) as error:
                    data, self.failure = b"", unknown_form(str(error))  # the database's
                except OSError:
                    data = b""  # the plugin has hung up
                if not data:
                    self._connections.remove(connection)
                    connection.close()
                    return

    def _reply(self, message: dict[str, Any]) -> dict[str, Any]:
        reply = {"id": message.get("id"), "result": None, "error": None}
        method, params = message["method"], message["params"]
        try:
            reply["result"] = self._transact(params) if method == "transact" else self._upstream.call(method, params)
        except TransactionError as error:  # not of an operation: the request as a whole
            reply["error"] = error.details
        return reply

    def _transact(self, params: list[Any]) -> list[Any]:
        operations: list[Operation] = params[1:]
        self._record(operations)
        if changes(operations):
            return self._try_out(params)
        if all(self._is_about_new_port(operation) for operation in operations):
            return self._answers_of_follower(operations)
        if self._configured is not None and all(map(_is_about_progress, operations)):
            return [{"rows": [{"cur_cfg": self._configured}]} for _ in operations]
        results: list[Any] = self._upstream.call("transact", params)
        for operation, result in zip(operations, results, strict=False):
            if operation in select_suspects() and isinstance(result, dict) and "rows" in result:
                self.suspects.update(suspects([result["rows"]], but=""))
                result["rows"] = []
        return results

    def _try_out(self, params: list[Any]) -> list[Any]:
        operations: list[Operation] = params[1:]
        answer = self._upstream.call("transact", [*params, {"op": "abort"}])
        results: list[Any] = answer[: len(operations)]
        if any(result is None or "error" in result for result in results):
            return results
        inserted = [operation["row"]["name"] for operation in operations if _inserts_interface(operation)]
        if inserted:
            self._inserted |= set(inserted)
            self._follower.insert(operations)
        for operation, result in zip(operations, results, strict=True):
            if operation["op"] == "select" and operation["columns"] == ["next_cfg"] and result["rows"]:
                self._configured = result["rows"][0]["next_cfg"]
        return results

    def _is_about_new_port(self, operation: Operation) -> bool:
        conditions = operation.get("where", [])
        return operation.get("table") == "Interface" and any(
            ["name", "==", name] in conditions for name in self._inserted
        )

    def _answers_of_follower(self, operations: list[Operation]) -> list[Any]:
        if any(operation["op"] == "wait" for operation in operations):
            if not self._upstream.is_served():
                return [{"error": NOT_MET, "details": "ovs-vswitchd is not running"}]
            self._follower.take()
        row = {"ofport": self._follower.number, "error": ["set", []]}
        return [
            {"rows": [{column: row.get(column) for column in operation["columns"]}]}
            if operation["op"] == "select"
            else {}
            for operation in operations
        ]


def _inserts_interface(operation: Operation) -> bool:
    return bool(operation["op"] == "insert" and operation["table"] == "Interface")


def _is_about_progress(operation: Operation) -> bool:
    return operation.get("table") == "Open_vSwitch" and operation.get("columns") == ["cur_cfg"]


def _messages(received: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The messages that are complete, and the rest: they follow each other without a separator."""
    found, decoder = [], json.JSONDecoder()
    while received.strip():
        try:
            text = received.decode().lstrip()
            message, end = decoder.raw_decode(text)
        except ValueError:
            break
        found.append(message)
        received = text[end:].encode()
    return found, received
