"""Operations of OVSDB in one line each, for people."""

from __future__ import annotations

import json
from typing import Any


def operation_text(operation: dict[str, Any]) -> tuple[str, str]:
    """An operation (RFC 7047 section 5.2) for people: what it does, and with what."""
    name, table = operation["op"], operation.get("table", "")
    where = " and ".join(
        f"{column} {function} {value_text(value)}" for column, function, value in operation.get("where", ())
    )
    rows = f"{table} where {where}" if where else table
    if name == "select":
        return name, f"{rows}: {', '.join(operation['columns'])}"
    if name == "wait":
        is_, [row] = "is not" if operation["until"] == "!=" else "is", operation["rows"]
        wanted = " and ".join(f"{column} {is_} {value_text(value)}" for column, value in row.items())
        patience = f"at most {operation['timeout']} ms" if operation["timeout"] else "or fail at once"
        return name, f"{rows}: until {wanted}, {patience}"
    if name == "insert":
        label = f"@{operation['uuid-name']}" if "uuid-name" in operation else operation.get("uuid", "")
        return name, f"{table} {label}: {_row_text(operation['row'])}"
    if name == "mutate":
        return name, f"{rows}: " + ", ".join(
            f"{column} {how} {value_text(value)}" for column, how, value in operation["mutations"]
        )
    if name == "update":
        return (name, f"{rows}: {_row_text(operation['row'])}") if operation["row"] else ("count", rows)
    return name, rows


def _row_text(row: dict[str, Any]) -> str:
    return ", ".join(f"{column}={value_text(value)}" for column, value in row.items())


def value_text(value: Any) -> str:
    """A value of OVSDB (RFC 7047 section 5.1) for people."""
    if isinstance(value, list) and len(value) == 2:
        kind, content = value
        if kind == "map":
            return "{" + ", ".join(f"{value_text(key)}: {value_text(item)}" for key, item in content) + "}"
        if kind == "set":
            return "[" + ", ".join(map(value_text, content)) + "]"
        if kind == "uuid":
            return str(content)
        if kind == "named-uuid":
            return f"@{content}"
    is_word = isinstance(value, str) and value != "" and not set(value) & set(' ,:=[]{}"')
    return str(value) if is_word else json.dumps(value, ensure_ascii=False)
