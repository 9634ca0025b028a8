"""The mirrors that a port is part of: Open vSwitch takes it out of them when it is removed, and it comes back anew."""

from __future__ import annotations

from typing import Any

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.ovsdb import mutate, select
from cni_ovs.plugin.vswitch import Vswitch

_SECONDS = 5.0
_SOURCES = ("select_src_port", "select_dst_port")
_OUTPUT = "output_port"
_COLUMNS = (*_SOURCES, _OUTPUT)


class _Mirrors(Vswitch):
    def of(self, port: str) -> dict[str, list[str]]:
        questions = [select("Mirror", [[column, "includes", ["uuid", port]]], ["_uuid"]) for column in _COLUMNS]
        found = zip(_COLUMNS, self._transact(*questions), strict=True)
        return {column: [row["_uuid"][1] for row in rows] for column, rows in found if rows}

    def add(self, port: str, mirrors: dict[str, list[str]]) -> None:
        this = ["uuid", port]
        changes = []
        for column in _COLUMNS:
            for mirror in mirrors.get(column, []):
                where: list[Any] = [["_uuid", "==", ["uuid", mirror]]]
                if column == _OUTPUT:  # unless it has another one by now
                    where += [[_OUTPUT, "==", ["set", []]]]
                    changes.append({"op": "update", "table": "Mirror", "where": where, "row": {_OUTPUT: this}})
                else:
                    changes.append(mutate("Mirror", where, [column, "insert", this]))
        self.ask_for_notice(*changes)


def of(socket_file: str, port: str) -> dict[str, list[str]]:
    """The mirrors that a port is part of.

    Args:
        socket_file: where Open vSwitch is.
        port: its UUID.

    Returns:
        By column of the table Mirror, the UUIDs of the rows that have the port there.

    Raises:
        CniError: Open vSwitch does not answer.
    """
    return _Mirrors(socket_file, Deadline(_SECONDS)).of(port)


def give_back(socket_file: str, identity: dict[str, str], mirrors: dict[str, list[str]]) -> None:
    """Make the port of an attachment part of these mirrors, as far as they are still there.

    Raises:
        CniError: as `of`.
    """
    switch = _Mirrors(socket_file, Deadline(_SECONDS))
    for port in switch.ports_of_network(identity):
        switch.add(port.uuid, mirrors)
