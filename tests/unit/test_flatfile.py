"""The flat file: what is taken from it, whose word counts, and which files are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_ovs.plugin import config as network_config
from cni_ovs.plugin.config import NetworkConfig
from cni_ovs.plugin.errors import CniError
from tests.unit.tools import Json

REQUIRED: Json = {"cniVersion": "1.1.0", "name": "n", "type": "ovs"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A flat file."""
    path = tmp_path / "ovs.conf"
    path.write_text(json.dumps({"bridge": "br9", "mtu": 1400, "socket_file": "/run/9.sock", "vlan": 9}))
    path.chmod(0o644)
    return path


def parse(file: Path, keys: Json, *, lenient: bool = False) -> NetworkConfig:
    values = {**REQUIRED, "configuration_path": str(file), **keys}
    return network_config.parse(values, json.dumps(values).encode(), "", lenient=lenient)


def refused(file: Path) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(file, {"bridge": "br1"})
    assert str(file) in caught.value.msg
    assert caught.value.code == 7
    return caught.value


@pytest.mark.parametrize("lenient", [False, True])
def test_what_the_configuration_leaves_out_is_taken_from_it(file: Path, lenient: bool) -> None:
    config = parse(file, {}, lenient=lenient)
    assert (config.bridge, config.mtu, config.socket_file) == ("br9", 1400, "unix:/run/9.sock")


def test_what_the_configuration_has_counts(file: Path) -> None:
    config = parse(file, {"bridge": "br1", "MTU": 1300, "vlan": 0})
    assert (config.bridge, config.mtu, config.socket_file) == ("br1", 1300, "unix:/run/9.sock")
    assert config.vlans is not None and config.vlans.tag == 0


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_an_empty_value_is_one_that_is_left_out(file: Path, empty: Any) -> None:
    assert parse(file, {"bridge": empty}).bridge == "br9"


@pytest.mark.parametrize(("key", "attribute"), [("mtu", "mtu"), ("ofport_request", "ofport_request")])
def test_so_is_a_zero_where_it_means_nothing(file: Path, key: str, attribute: str) -> None:
    file.write_text(json.dumps({"bridge": "br9", key: 99}))
    assert getattr(parse(file, {key: 0}), attribute) == 99


def test_ipam_receives_the_whole(file: Path) -> None:
    file.write_text(json.dumps({"Bridge": "br9", "ipam": {"type": "static"}, "dns": {"domain": "\ud800ü"}}))
    config = parse(file, {"bridge": "", "prevResult": {}, "dns": {}, "more": {"a": [1, 2.5, None]}})
    assert config.ipam_type == "static"
    assert json.loads(config.raw) == {
        **REQUIRED,
        "configuration_path": str(file),
        "Bridge": "br9",
        "ipam": {"type": "static"},
        "dns": {"domain": "\ud800ü"},
        "prevResult": {},
        "more": {"a": [1, 2.5, None]},
    }


def test_the_configuration_is_as_the_runtime_wrote_it_where_nothing_is_left_out(file: Path) -> None:
    raw = json.dumps({**REQUIRED, "bridge": "b", "configuration_path": str(file)}, indent=3).encode()
    file.write_text('{"bridge": "br9"}')
    assert network_config.parse(json.loads(raw), raw, "").raw == raw


@pytest.mark.parametrize(
    "key", ["name", "type", "cniVersion", "prevResult", "args", "runtimeConfig", "RuntimeConfig", "capabilities"]
)
def test_what_is_said_of_one_network_is_not_taken_from_it(file: Path, key: str) -> None:
    file.write_text(json.dumps({"bridge": "br9", key: {"mac": "02:00:00:00:00:01", "cni": {"mac": "x"}}}))
    config = parse(file, {})
    assert (config.name, config.mac, config.prev_result) == ("n", None, None)


def test_a_wrong_value_in_it_is_refused_naming_the_file(file: Path) -> None:
    file.write_text('{"bridge": "br9", "vlan": 4095, "ipam": {"type": 1}}')
    with pytest.raises(CniError, match=r"invalid 'ipam\.type' in ") as caught:
        parse(file, {})
    assert str(file) in caught.value.msg
    with pytest.raises(CniError, match=r"invalid 'vlan' in .*: 4095: must be") as caught:
        parse(file, {"ipam": {"type": "static"}})
    assert str(file) in caught.value.msg


def test_an_unknown_key_in_it_is_reported(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text('{"brigde": "br9"}')
    parse(file, {"bridge": "br1"})
    assert "unknown key 'brigde'" in capfd.readouterr().err


# Files that are refused


def test_one_that_is_not_there(file: Path) -> None:
    file.unlink()
    assert "No such file" in refused(file).msg


@pytest.mark.parametrize("mode", [0o646, 0o666, 0o602, 0o777])
def test_one_that_everybody_can_write(file: Path, mode: int) -> None:
    file.chmod(mode)
    error = refused(file)
    assert "others than root can write" in error.msg and "chmod" in error.details


def test_one_that_another_user_can_write(file: Path) -> None:
    os.chown(file, 65534, 0)
    assert "others than root can write" in refused(file).msg


def test_one_that_another_group_can_write(file: Path) -> None:
    file.chmod(0o664)
    parse(file, {})  # the group is root's
    os.chown(file, 0, 65534)
    assert "others than root can write" in refused(file).msg
    file.chmod(0o644)
    parse(file, {})


@pytest.mark.parametrize("text", ["", "{", "bridge: br1", '{"a": 1} 2', "\ud800", "\ufeff{}"])
def test_one_that_is_not_json(file: Path, text: str) -> None:
    file.write_text(text, errors="surrogatepass")
    assert "not valid JSON" in refused(file).msg


@pytest.mark.parametrize("text", ["[]", "1", "null", '"bridge"'])
def test_one_that_is_no_object(file: Path, text: str) -> None:
    file.write_text(text)
    assert "must be an object" in refused(file).msg


def test_one_that_is_too_large(file: Path) -> None:
    file.write_text('{"bridge": "br9"}' + " " * (1 << 20))
    assert "larger" in refused(file).msg


@pytest.mark.parametrize("kind", ["folder", "FIFO", "device", "link to a FIFO"])
def test_what_is_no_regular_file(file: Path, kind: str) -> None:
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        other = file.with_name("fifo")
        os.mkfifo(file if kind == "FIFO" else other)
        if kind != "FIFO":
            file.symlink_to(other)
    assert "not a regular file" in refused(file).msg


def test_a_symbolic_link_is_followed_to_what_root_alone_can_write(file: Path) -> None:
    # Each file of a mounted ConfigMap is one.
    link = file.with_name("link")
    link.symlink_to(file)
    assert parse(link, {}).bridge == "br9"
    file.chmod(0o666)
    assert "others than root can write" in refused(link).msg


def test_one_that_is_nested_deeply(file: Path) -> None:
    file.write_text('{"bridge": "b", "ipam": ' + '{"a":' * 5000 + "1" + "}" * 5001)
    assert "nested too deeply" in refused(file).msg


@pytest.mark.parametrize("text", ["{", "[]"])
def test_del_and_gc_go_on_without_it(file: Path, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(text)
    config = parse(file, {"bridge": "br1", "socket_file": "/run/1.sock"}, lenient=True)
    assert config.socket_file == "unix:/run/1.sock"
    assert str(file) in capfd.readouterr().err
