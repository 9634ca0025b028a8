"""Whatever comes in, on stdin and in the environment: an error is told as CNI's JSON, and never as an unexpected one.

The namespace, the database and the IPAM plugin lead nowhere, so nothing on this machine is changed, or waited for.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.unit.tools import CONFIG, ENVIRONMENT, NO_NETNS, NO_SOCKET, NOWHERE, VERSIONS, Json, handle, invoke

# The sockets live as long as the process: a plugin's does not live long.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

# Without 5, which says that the system refused something: here nothing makes it.
CODES = (1, 2, 4, 6, 7, 8, 11, 50, 104)
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
TYPES = ("static", "", "..", "a/b", "\0")

numbers = st.sampled_from([0, 1, -1, 68, 4094, 4095, 65279, 65535, 65536, 3600, 1 << 31, 1 << 32, 1 << 64, 10**300])
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["10.0.0.2/8", "fd00::1/64", "10.0.0.1", "02:00:00:00:00:01", "net1", "/", "veth", "internal"])
)
names = st.sampled_from(
    ["mac", "cni", "type", "ips", "address", "gateway", "interface", "interfaces", "name", "sandbox", "routes", "dst"]
    + ["gw", "id", "minID", "containerID", "ifname", "ip4", "ip6", "ip", "ovnPort", "MTU", "Name"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=4)
)
# log_file, socket_file and ipam.type are left out or harmless: they would write, connect and execute.
keys = st.sampled_from(
    ["name", "cniVersion", "type", "bridge", "interface_type", "vlan", "mtu", "ofport_request", "external_ids", "dns"]
    + ["timeout", "link_state_check_retries", "link_state_check_interval", "log_level", "prevResult", "args"]
    + ["runtimeConfig", "capabilities", "trunk", "vlan_mode", "cvlans", "deviceID", "cni.dev/valid-attachments"]
    + ["Bridge", "VLAN", "PrevResult", "RuntimeConfig", "brigde", "IPAM", ""]
)
safe_texts = st.sampled_from(["relative", "tcp:", "tcp:[::1]", "tcp:x:1", "tcp:1.2.3.4:0", "unix:x", "/\0", NO_SOCKET])
configs = st.builds(
    lambda base, ipam, changes, socket: {**base, **ipam, **changes, **socket},
    st.just(CONFIG) | st.just({"socket_file": NO_SOCKET}),
    st.just({}) | st.builds(lambda kind: {"ipam": {"type": kind}}, st.sampled_from(TYPES)),
    st.dictionaries(keys, values, max_size=4),
    st.just({}) | st.builds(lambda text: {"socket_file": text}, safe_texts),
)
# As Python reads bytes that are not UTF-8; a variable has no zero byte.
texts = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
environments = st.fixed_dictionaries(
    {},
    optional={
        "CNI_COMMAND": st.sampled_from(COMMANDS) | texts,
        "CNI_CONTAINERID": st.just(ENVIRONMENT["CNI_CONTAINERID"]) | texts,
        "CNI_NETNS": st.sampled_from([NO_NETNS, "/", "/proc/self/ns/net", "/dev/null"]) | texts.map(NOWHERE.__add__),
        "CNI_IFNAME": st.just("net1") | texts,
        "CNI_ARGS": texts | st.sampled_from(["MAC=02:00:00:00:00:01", "MAC=x", ";;", "OvnPort=x", "K8S_POD_NAME=\x01"]),
        "CNI_PATH": st.sampled_from([NOWHERE, ":", "", "\udcff", f"{NOWHERE}::{NOWHERE}"]),
        "CNI_NETNS_OVERRIDE": st.sampled_from(["0", "", "yes"]),
    },
)


def judge(outcome: Any) -> None:
    """It is a success without a word, or an error with one of our codes."""
    if outcome.exit_code == 0:
        outcome.silent()
    else:
        outcome.error(*CODES)


@st.composite
def damaged(draw: DrawFn) -> bytes:
    """The bytes of a configuration with a few changed: what is left of socket_file leads nowhere either."""
    text = bytearray(json.dumps(draw(configs)).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        new = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b",", b"0"]))
        text[at : at + draw(st.integers(0, 2))] = new
    return bytes(text)


@given(st.sampled_from(COMMANDS), configs)
@example("ADD", {**CONFIG, "cniVersion": "0.1.0"})
@example("CHECK", {**CONFIG, "prevResult": {"interfaces": [{"Name": "net1", "sandbox": "x"}]}})
@example("DEL", {**CONFIG, "ipam": {"type": "static"}})
def test_no_configuration_makes_an_unexpected_error(command: str, config: Json) -> None:
    judge(invoke(command, config))


@given(st.sampled_from(COMMANDS), damaged() | st.binary(max_size=50))
@example("STATUS", b'{"name":"n","cniVersion":"1.1.0","bridge":"b","vlan":1e400}')
@example("DEL", json.dumps(CONFIG | {"mtu": "X"}).replace('"X"', "1e400").encode())
@example("STATUS", json.dumps(CONFIG | {"socket_file": "tcp:127.0.0.1:06553511"}).encode())
@example("ADD", b"[" * 100_000)
@example("ADD", b'{"name":' * 100_000)
@example("ADD", b'{"name":"' + b"n" * 1_000_000 + b'"}')
@example("ADD", b'{"name":"n","' + b"k" * 100_000 + b'":1}')
def test_no_bytes_on_stdin_make_an_unexpected_error(command: str, stdin: bytes) -> None:
    judge(invoke(command, stdin))


@given(environments, st.just(CONFIG) | configs)
@example({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth%d"}, CONFIG)
@example({"CNI_COMMAND": "STATUS", "CNI_ARGS": "\udcff"}, CONFIG)
def test_no_environment_makes_an_unexpected_error(environment: dict[str, str], config: Json) -> None:
    if environment.get("CNI_COMMAND"):  # main.py says what it is, where there is none
        judge(handle(environment, config))


@given(
    st.sampled_from(["ADD", "CHECK"]),
    st.sampled_from(VERSIONS),
    st.fixed_dictionaries(
        {},
        optional={
            "cniVersion": st.sampled_from(VERSIONS),
            "interfaces": st.lists(st.dictionaries(names, scalars, max_size=4), max_size=2) | values,
            "ips": st.lists(st.dictionaries(names, scalars, max_size=4), max_size=2) | values,
            "routes": st.lists(st.dictionaries(names, scalars, max_size=4), max_size=2) | values,
            "dns": values,
            "ip4": values,
        },
    )
    | values,
)
def test_no_previous_result_makes_an_unexpected_error(command: str, version: str, previous: object) -> None:
    judge(invoke(command, CONFIG | {"cniVersion": version, "prevResult": previous}))


@given(st.lists(st.dictionaries(st.sampled_from(["containerID", "ifname", "x"]), values, max_size=3) | values) | values)
def test_no_list_of_attachments_makes_an_unexpected_error(attachments: object) -> None:
    for command in ("GC", "DEL"):
        judge(invoke(command, CONFIG | {"cni.dev/valid-attachments": attachments}))
