"""A connection to ovsdb-server that is kept, to learn without starting a program whether ovs-vswitchd has caught up."""

from __future__ import annotations

import json
import socket
from typing import Any


class Database:
    """OVSDB's JSON-RPC (RFC 7047), as much as is needed. Independent of the plugin, which is what is measured."""

    def __init__(self, path: str) -> None:
        """Connects to the unix socket of ovsdb-server."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(180)
        self._socket.connect(path)
        self._decoder = json.JSONDecoder()
        self._text = ""

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def transact(self, *operations: dict[str, Any]) -> list[dict[str, Any]]:
        """One transaction; RuntimeError when ovsdb-server refuses it."""
        self._send("transact", ["Open_vSwitch", *operations], 1)
        while True:
            message = self._receive()
            if message.get("method") == "echo":
                self._socket.sendall(json.dumps({"result": [], "error": None, "id": message["id"]}).encode())
            elif message.get("id") == 1:
                break
        if message["error"] or any(answer and "error" in answer for answer in message["result"]):
            raise RuntimeError(f"ovsdb-server refused {operations}: {message}")
        results: list[dict[str, Any]] = message["result"]
        return results

    def settle(self) -> None:
        """Returns when ovs-vswitchd has done all that the database says; ovs-vsctl waits in the same way."""
        switch: dict[str, Any] = {"table": "Open_vSwitch", "where": []}
        answers = self.transact(
            {"op": "mutate", **switch, "mutations": [["next_cfg", "+=", 1]]},
            {"op": "select", **switch, "columns": ["next_cfg"]},
        )
        wanted = answers[1]["rows"][0]["next_cfg"]
        wait = {"op": "wait", **switch, "columns": ["cur_cfg"], "until": "==", "rows": [{"cur_cfg": wanted}]}
        self.transact({**wait, "timeout": 150_000})

    def ports(self) -> dict[str, int | None]:
        """The OpenFlow port number of each interface, None where it has none yet, -1 where it was refused."""
        select = {"op": "select", "table": "Interface", "where": [], "columns": ["name", "ofport"]}
        rows = self.transact(select)[0]["rows"]
        return {row["name"]: row["ofport"] if isinstance(row["ofport"], int) else None for row in rows}

    def _send(self, method: str, params: list[Any], number: int) -> None:
        self._socket.sendall(json.dumps({"method": method, "params": params, "id": number}).encode())

    def _receive(self) -> dict[str, Any]:
        while True:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except ValueError:
                more = self._socket.recv(1 << 20)
                if not more:
                    raise RuntimeError("ovsdb-server closed the connection") from None
                self._text += more.decode()
                continue
            self._text = self._text[end:]
            assert isinstance(message, dict)
            return message
