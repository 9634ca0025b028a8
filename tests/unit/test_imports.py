"""What the plugin loads. A runtime waits for every module, so each is on a list here, with intent."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "cni_ovs" / "plugin"

# What the plugin may load besides what any interpreter has: C modules, and thin Python files over them.
ALLOWED = {
    *("__future__", "_signal", "_socket", "_struct", "errno", "fcntl", "gc", "posix", "select", "time"),
}
# os.setns came with Python 3.12.
OLD_PYTHON = {"_ctypes"} if sys.version_info < (3, 12) else set()

OURS = {"cni_ovs"} | {
    f"cni_ovs.{name}"
    for name in (
        *("plugin", "plugin.main", "plugin.protocol", "plugin.errors", "plugin.config", "plugin.forms", "plugin.inet"),
        *("plugin.jsontext", "plugin.log", "plugin.deadline", "plugin.netlink", "plugin.attachment"),
    )
}
CHANGING = {f"cni_ovs.plugin.{name}" for name in ("vswitch", "ovsdb", "at_work", "devices", "devices.veth", "netns")}
ENTERING = {"cni_ovs.plugin.setns"}  # a sandbox
DELETE = {"cni_ovs.plugin.delete"}
RETURNING = {"cni_ovs.plugin.detaching"}  # an address
VLANS = {"cni_ovs.plugin.vlans"}
LOOKING = {"cni_ovs.plugin.inspection"}
ADD = {f"cni_ovs.plugin.{name}" for name in ("add", "insertion", "result")}
VF = {f"cni_ovs.plugin.{name}" for name in ("sriov", "devices.vf", "devices.vf_release")}
IPAM = {f"cni_ovs.plugin.{name}" for name in ("ipam", "addresses", "result", "netns")}

# These together cost more than an attachment. None may appear in what ADD, DEL or VERSION load.
COSTLY = {
    *("argparse", "array", "asyncio", "base64", "collections", "collections.abc", "contextlib", "copy", "dataclasses"),
    *("datetime", "difflib", "enum", "functools", "hashlib", "heapq", "importlib", "inspect", "ipaddress", "json"),
    *("keyword", "locale", "logging", "operator", "os", "ovs", "pathlib", "platform", "pyroute2", "random", "re"),
    *(
        "reprlib",
        "selectors",
        "shlex",
        "shutil",
        "signal",
        "site",
        "socket",
        "string",
        "subprocess",
        "tempfile",
        "threading",
    ),
    *("tokenize", "traceback", "types", "typing", "uuid", "warnings", "weakref"),
}


@functools.cache
def interpreter() -> set[str]:
    """What an interpreter loads for itself: it costs nothing."""
    return loaded_by("")


def loaded_by(program: str, **environment: str) -> set[str]:
    """The names of all modules that are loaded when a program ends, in an interpreter without `site`."""
    text = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{program}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text + "print('modules:', *sys.modules)"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return set(done.stdout.rpartition("modules:")[2].split())


def imported(*names: str) -> str:
    """A program that imports these modules of the plugin."""
    return "\n".join(f"import cni_ovs.plugin.{name}" for name in names)


def invoked(command: str, config: dict[str, object], said: str = "") -> str:
    """A program that carries out a command the way main.py does, as far as it comes without Open vSwitch.

    `said` must be part of the answer.
    """
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "unit-test-container",
        "CNI_NETNS": "/nonexistent/cni-ovs/netns",
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/nonexistent/cni-ovs",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p;MAC=02:00:00:00:00:01",
    }
    raw = json.dumps(
        {"name": "n", "cniVersion": "1.1.0", "bridge": "b", "socket_file": "/nonexistent/cni-ovs/db.sock", **config}
    ).encode()
    return (
        "from cni_ovs.plugin import main, protocol\n"
        "from cni_ovs.plugin.deadline import Deadline\n"
        f"code, answer = protocol.handle({variables!r}, lambda: {raw!r}, Deadline(5))\n"
        f"assert {said!r} in answer, answer"
    )


EVERY_KEY: dict[str, object] = {
    "interface_type": "veth",
    "vlan": 5,
    "mtu": 1400,
    "ofport_request": 7,
    "external_ids": {"a": "b"},
    "timeout": 3,
    "link_state_check_retries": 5,
    "link_state_check_interval": 600,
    "log_level": "debug",
    "dns": {"domain": "d"},
    "prevResult": {"ips": [{"address": "10.0.0.2/8"}, {"address": "fd00::1/64"}], "routes": [{"dst": "::/0"}]},
}


def assert_only(loaded: set[str], *ours: set[str]) -> None:
    """Nothing is loaded but the interpreter's own, the allowed, and these of the plugin."""
    assert loaded - interpreter() - ALLOWED - OLD_PYTHON - set().union(OURS, *ours) == set()
    assert loaded & COSTLY - OLD_PYTHON == set()


def test_the_interpreter_alone_loads_none_of_what_is_costly() -> None:
    assert not COSTLY & (interpreter() | ALLOWED)


def test_version_loads_only_what_is_listed() -> None:
    program = (
        "import posix\nfrom cni_ovs.plugin import main\n"
        "def end(code): print('ended', code)\n"
        "main._end = end; posix.dup2 = lambda *_: None\n"
        "main.main()"
    )
    loaded = loaded_by(program, CNI_COMMAND="VERSION")
    assert_only(loaded)
    assert "cni_ovs.plugin.protocol" in loaded


def test_add_on_layer_2_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "add", "devices.veth", "setns"))
    assert_only(loaded, ADD, CHANGING, ENTERING)
    assert loaded >= ADD | CHANGING | ENTERING


def test_add_with_addresses_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "add", "devices.veth", "ipam", "addresses"))
    assert_only(loaded, ADD, CHANGING, IPAM)


def test_add_of_an_internal_port_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "add", "devices.internal"))
    assert_only(loaded, ADD, CHANGING, {"cni_ovs.plugin.devices.internal"})


def test_add_of_a_vf_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "add", "devices.vf"))
    assert_only(loaded, ADD, CHANGING, VF)
    assert loaded >= VF


def test_del_of_a_vf_does_not_load_what_add_needs() -> None:
    loaded = loaded_by(imported("main", "protocol", "delete", "devices.vf_release"))
    assert_only(loaded, DELETE, CHANGING, VF - {"cni_ovs.plugin.devices.vf"})


VHOST_USER = {"cni_ovs.plugin.devices.vhost_user", "cni_ovs.plugin.device_info"}


def test_add_of_the_other_kinds_of_port_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "add", "devices.tap"))
    assert_only(loaded, ADD, CHANGING, {"cni_ovs.plugin.devices.internal", "cni_ovs.plugin.devices.tap"})
    loaded = loaded_by(imported("main", "protocol", "add", "devices.vhost_user"))
    assert_only(loaded, ADD, CHANGING, VHOST_USER)


@pytest.mark.parametrize(("command", "code"), [("ADD", 4), ("DEL", 11), ("STATUS", 50)])
def test_the_keys_of_a_vhost_user_port_load_its_files_and_no_more(command: str, code: int) -> None:
    keys: dict[str, object] = {"interface_type": "dpdkvhostuserclient", "sharedDir": "/run/vhost"}
    loaded = loaded_by(invoked(command, keys, f'"code": {code},'))
    own = {"STATUS": {"cni_ovs.plugin.status"} | LOOKING, "DEL": DELETE}.get(command, set())
    assert_only(loaded, ADD if command == "ADD" else set(), CHANGING, VHOST_USER, own)
    assert loaded >= VHOST_USER
    assert not VHOST_USER & loaded_by(invoked(command, {}, f'"code": {code},'))


def test_del_loads_only_what_is_listed() -> None:
    loaded = loaded_by(imported("main", "protocol", "delete", "devices.veth"))
    assert_only(loaded, DELETE, CHANGING)
    loaded = loaded_by(imported("main", "protocol", "delete", "devices.veth", "devices.internal", "ipam"))
    assert_only(loaded, DELETE, CHANGING, IPAM, {"cni_ovs.plugin.devices.internal"})


@pytest.mark.parametrize("command", ["STATUS", "CHECK", "GC"])
def test_the_other_commands_load_only_what_is_listed(command: str) -> None:
    own = {"STATUS": "status", "CHECK": "check", "GC": "gc"}[command]
    loaded = loaded_by(imported("main", "protocol", own))
    others = {"GC": DELETE | RETURNING, "CHECK": VLANS | LOOKING, "STATUS": LOOKING}.get(command, set())
    assert_only(loaded, ADD, CHANGING, {f"cni_ovs.plugin.{own}"}, others)


@pytest.mark.parametrize(("command", "code"), [("ADD", 4), ("DEL", 11), ("STATUS", 50)])
@pytest.mark.parametrize("ipam", [{}, {"ipam": {"type": "static"}}], ids=["layer2", "ipam"])
def test_carrying_out_a_command_loads_no_more_than_importing_it(
    command: str, code: int, ipam: dict[str, object]
) -> None:
    # Even where it ends with an error: only mistakes in the configuration may cost more.
    loaded = loaded_by(invoked(command, EVERY_KEY | ipam, f'"code": {code},'))
    own = {"STATUS": {"cni_ovs.plugin.status"} | LOOKING, "DEL": DELETE}.get(command, set())
    own = own if command == "DEL" else own | VLANS  # which matter nothing to DEL
    assert_only(loaded, ADD, CHANGING, IPAM, own, RETURNING if command == "DEL" and ipam else set())


@pytest.mark.parametrize("command", ["VERSION", "DEL", "STATUS"])
def test_a_command_does_not_load_what_only_others_need(command: str) -> None:
    program = invoked(command, {})
    loaded = loaded_by(program)
    assert not {"cni_ovs.plugin.add", "cni_ovs.plugin.check", "cni_ovs.plugin.addresses"} & loaded
    assert "cni_ovs.plugin.ipam" not in loaded
    if command == "VERSION":
        assert not (CHANGING | ADD) & loaded


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules outside the plugin that a file imports, and whether it does so inside a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, inside
        in_function = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ExceptHandler))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, in_function)

    return walk(ast.parse(path.read_text()), False)


@pytest.mark.parametrize("path", sorted(PLUGIN.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGIN)))
def test_what_is_imported_is_listed_even_where_no_test_comes(path: Path) -> None:
    at_once = {name for name, inside in imports(path) if not inside and not name.startswith("cni_ovs")}
    later = {name for name, inside in imports(path) if inside}
    frozen, not_frozen = ({"_setns"}, {"_ctypes"}) if path.name == "setns.py" else (set(), set())  # with Python 3.11
    assert at_once <= ALLOWED | {"sys"} | frozen
    assert later == not_frozen


def test_a_mistake_in_the_configuration_loads_what_guesses_and_no_more() -> None:
    loaded = loaded_by(invoked("STATUS", {"brigde": 1}))
    guessing = {"cni_ovs.plugin.spelling", "cni_ovs.plugin.unknown_keys"}
    assert_only(loaded, guessing, {"cni_ovs.plugin.status"}, LOOKING, CHANGING)
    assert guessing <= loaded
    assert not guessing & loaded_by(invoked("STATUS", {"bridge": "b"}))
