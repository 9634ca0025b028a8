"""What is known of how an attachment was made, from libcni's cache."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cni_ovs.cli import recorded

IDS = {"contNetwork": "net", "contID": "0123", "contIface": "eth0", "contNetns": "/run/netns/x"}


def cached(folder: Path, plugin: dict[str, Any], **more: Any) -> recorded.Record | None:
    """What is known when libcni keeps this of a chain."""
    chain = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "ovs", **plugin}, {"type": "tuning"}]}
    whole = {"config": base64.b64encode(json.dumps(chain).encode()).decode(), "result": {}, **more}
    (folder / "net-0123-eth0").write_text(json.dumps(whole))
    return recorded.known(IDS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recorded, "CACHE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, {"cni": {"ovnPort": "a"}}),
        ({"x": 1, "cni": {"mac": "02:00:00:00:00:01"}}, {"x": 1, "cni": {"mac": "02:00:00:00:00:01", "ovnPort": "a"}}),
        ({"cni": {"ovnPort": "b"}}, {"cni": {"ovnPort": "b"}}),
    ],
)
def test_the_logical_port_that_cni_args_named_is_part_of_the_configuration(
    folder: Path, args: Any, expected: Any
) -> None:
    record = cached(folder, {"args": args}, cniArgs=[["IgnoreUnknown", "1"], ["OvnPort", "a"]])
    assert record is not None and record.config["args"] == expected
    assert record.others == ("tuning",)


@pytest.mark.parametrize("arguments", [5, [5], ["OvnPort"], [["OvnPort"]], [[{}, 1]], {"OvnPort": "a"}])
def test_a_damaged_cache_is_as_none(folder: Path, arguments: Any) -> None:
    assert cached(folder, {}, cniArgs=arguments) is None
