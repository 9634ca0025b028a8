"""What is known of how an attachment was made: from libcni's cache, or a note."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cni_ovs.cli import recorded
from cni_ovs.cli.failure import Failure

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
def test_the_logical_port_of_ovn_is_part_of_the_configuration(args: Any, expected: Any) -> None:
    config = {"bridge": "br-int", **({} if args is None else {"args": args})}
    assert recorded.with_ovn_port(config, "a") == {"bridge": "br-int", "args": expected}
    assert recorded.with_ovn_port(config, None) == config


@pytest.mark.parametrize("args", [[1], 5, {"cni": 5}])
def test_what_has_not_its_form_is_refused(args: Any) -> None:
    with pytest.raises(Failure, match="must be an object"):
        recorded.with_ovn_port({"args": args}, "a")


def test_the_plugins_behind_ours_in_a_chain_are_known_also_from_a_note(folder: Path) -> None:
    record = cached(folder, {"bridge": "b"})
    assert record is not None and record.others == ("tuning",)
    noted = {**IDS, recorded.INTERRUPTED: replace(record, mirrors={"output_port": [str(uuid4())]}).text()}
    assert recorded.interrupted(noted) == replace(record, mirrors=json.loads(noted[recorded.INTERRUPTED])["mirrors"])


@pytest.mark.parametrize(
    "more",
    [{"mirrors": {"output_port": ["x"]}}, {"mirrors": [1]}, {"others": [1]}, {"ips": None, "routes": [{"dst": 5}]}],
)
def test_a_damaged_note_is_as_none(more: dict[str, Any]) -> None:
    values = {"config": {}, "ips": [], "routes": [], **more}
    assert recorded.interrupted({**IDS, recorded.INTERRUPTED: json.dumps(values)}) is None
