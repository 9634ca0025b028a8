"""Delegation to IPAM plugins: real programs, of which most misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_ovs.plugin import config as network_config
from cni_ovs.plugin import ipam, jsontext
from cni_ovs.plugin.config import NetworkConfig
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.ipam import Delegate
from cni_ovs.plugin.protocol import Invocation
from cni_ovs.plugin.result import render
from tests.unit.tools import VERSIONS, within

RAW = b'{"name": "n", "bridge": "b",\n "ipam": {"type": "plugin"}, "\xc3\xbc": 1e2}'
ANSWER = '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}'


class Plugin:
    """An IPAM plugin that is a shell script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "plugin"

    def write(self, body: str, *, mode: int = 0o755, shebang: str = "#!/bin/sh\n") -> None:
        """What it does."""
        self.path.write_text(shebang + body + "\n")
        self.path.chmod(mode)

    def config(self) -> NetworkConfig:
        """A configuration that names it."""
        return network_config.parse(json.loads(RAW), RAW, "", lenient=True)

    def invocation(self, **variables: str) -> Invocation:
        """An invocation whose CNI_PATH has it."""
        return Invocation({"PATH": os.environ["PATH"], "CNI_COMMAND": "ADD", "CNI_PATH": str(self.folder), **variables})

    def start(self, command: str = "ADD", instead: dict[str, str] | None = None, **variables: str) -> Delegate:
        """It, running."""
        return Delegate(command, self.invocation(**variables), self.config(), instead)

    def add(self, seconds: float = 10) -> list[dict[str, Any]]:
        """The addresses that it gives."""
        delegate = self.start()
        try:
            return ipam.finish_add(delegate, Deadline(seconds)).ips
        finally:
            delegate.end()

    def fail(self, seconds: float = 10) -> CniError:
        """The error of an ADD."""
        with pytest.raises(CniError) as caught:
            self.add(seconds)
        return caught.value


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    """An IPAM plugin to be written; the test leaves no file descriptor and no child process, and does not hang."""
    before = set(os.listdir("/proc/self/fd"))
    with within(20):
        yield Plugin(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before
    try:
        children = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    assert children is None, "a child was not waited for"


def gone(pid_file: Path) -> bool:
    """Whether the process whose id is in the file ends soon."""
    pid = int(pid_file.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def written(path: Path) -> None:
    """Wait until a script has written a file."""
    end = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < end
        time.sleep(0.01)


# Well-behaved plugins


def test_the_answer_is_the_result(plugin: Plugin) -> None:
    plugin.write(f"cat > /dev/null; echo '{ANSWER}'")
    assert plugin.add() == [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]


def test_a_plugin_gets_the_whole_configuration_as_it_came(plugin: Plugin) -> None:
    plugin.write(f"cat > '{plugin.folder}/stdin'; echo '{ANSWER}'")
    plugin.add()
    assert (plugin.folder / "stdin").read_bytes() == RAW


def test_a_plugin_gets_our_environment_but_for_the_command(plugin: Plugin) -> None:
    plugin.write(f"env -0 > '{plugin.folder}/env'")
    plugin.start("DEL", CNI_ARGS="A=1;B=\udcff", CNI_IFNAME="e", OTHER="x\ny").finish(Deadline(10))
    found = dict(item.split(b"=", 1) for item in (plugin.folder / "env").read_bytes().split(b"\0")[:-1])
    for added_by_the_shell in (b"PWD", b"_", b"OLDPWD", b"SHLVL"):
        found.pop(added_by_the_shell, None)
    assert found == {
        b"PATH": os.fsencode(os.environ["PATH"]),
        b"CNI_PATH": os.fsencode(plugin.folder),
        b"CNI_COMMAND": b"DEL",
        b"CNI_ARGS": b"A=1;B=\xff",
        b"CNI_IFNAME": b"e",
        b"OTHER": b"x\ny",
    }


def test_variables_can_be_replaced(plugin: Plugin) -> None:
    plugin.write(f"echo \"$CNI_COMMAND $CNI_IFNAME $CNI_NETNS\" > '{plugin.folder}/env'")
    instead = {"CNI_IFNAME": "other", "CNI_COMMAND": "GC"}
    plugin.start("DEL", instead, CNI_IFNAME="e", CNI_NETNS="n").finish(Deadline(10))
    assert (plugin.folder / "env").read_text() == "DEL other n\n"


def test_a_plugin_that_does_not_read_stdin_is_no_problem(plugin: Plugin) -> None:
    plugin.write(f"exec <&-; echo '{ANSWER}'")
    assert len(plugin.add()) == 1


def test_a_plugin_may_be_killed_by_a_broken_pipe_of_its_own(plugin: Plugin) -> None:
    plugin.write("grep SigIgn /proc/self/status | cut -f2 >&2; exit 1")
    ignored = int(plugin.fail().details, 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def test_stderr_is_passed_on(plugin: Plugin, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    plugin.write(f"echo 'a warning' >&2; printf 'caf\\351\\n' >&2; echo '{ANSWER}'")
    plugin.add()
    assert capfdbinary.readouterr().err == b"a warning\ncaf\xe9\n"


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_commands_other_than_add_need_no_answer(plugin: Plugin, command: str) -> None:
    plugin.write(f'test "$CNI_COMMAND" = {command} || exit 1; echo')
    ipam.run(command, plugin.invocation(), plugin.config(), Deadline(10))


def test_two_plugins_may_run_at_once(plugin: Plugin) -> None:
    plugin.write(f"sleep 0.2; echo '{ANSWER}'")
    start = time.monotonic()
    running = [plugin.start() for _ in range(4)]
    for delegate in reversed(running):
        assert delegate.finish(Deadline(10))["ips"]
    assert time.monotonic() - start < 0.75


# Where it is found


def test_the_first_folder_that_has_the_plugin_counts(plugin: Plugin) -> None:
    plugin.write("")
    empty = plugin.folder / "empty"
    empty.mkdir()
    other = plugin.folder / "other"
    other.mkdir()
    (other / "plugin").write_text("")
    assert ipam.find("plugin", f"::{empty}:/nonexistent:{plugin.folder}:{other}") == str(plugin.path)


def test_a_folder_of_that_name_is_passed_over(plugin: Plugin) -> None:
    (plugin.folder / "first" / "plugin").mkdir(parents=True)
    plugin.write("")
    assert ipam.find("plugin", f"{plugin.folder}/first:{plugin.folder}") == str(plugin.path)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "dangling"])
def test_a_plugin_that_is_not_there_is_named_with_the_path(plugin: Plugin, kind: str) -> None:
    if kind == "folder":
        plugin.path.mkdir()
    elif kind == "fifo":
        os.mkfifo(plugin.path)
    elif kind == "dangling":
        plugin.path.symlink_to("nowhere")
    error = plugin.fail()
    assert error.code == 104
    assert "'plugin'" in error.msg and str(plugin.folder) in error.msg


@pytest.mark.parametrize("path", [":", "\udcff", "/nonexistent:::"])
def test_a_path_that_leads_nowhere_is_told(path: str) -> None:
    with pytest.raises(CniError) as caught:
        ipam.find("plugin", path)
    assert caught.value.code == 104
    assert jsontext.encode(caught.value.msg)


@pytest.mark.parametrize(
    ("mode", "shebang", "reason"),
    [
        (0o644, "#!/bin/sh\n", "Permission denied"),
        (0o755, "", "Exec format error"),
        (0o755, "#!/nonexistent/sh\n", "No such file"),
    ],
)
def test_a_plugin_that_cannot_be_started_is_told_with_the_reason(
    plugin: Plugin, mode: int, shebang: str, reason: str
) -> None:
    plugin.write("exit 0", mode=mode, shebang=shebang)
    error = plugin.fail()
    assert error.code == 104
    assert str(plugin.path) in error.msg and reason in error.msg


# Plugins that fail


def test_the_error_of_a_plugin_is_ours(plugin: Plugin) -> None:
    plugin.write("""echo '{"cniVersion": "1.0.0", "code": 110, "msg": "no address left", "details": "all"}'; exit 1""")
    error = plugin.fail()
    assert (error.code, error.details) == (110, "all")
    assert "no address left" in error.msg and "'plugin'" in error.msg


@pytest.mark.parametrize("details", ["", ', "details": null', ', "details": ""', ', "details": 0'])
def test_an_error_without_details_has_none(plugin: Plugin, details: str) -> None:
    plugin.write(f"""echo '{{"code": 7, "msg": "m"{details}}}'; exit 3""")
    assert (plugin.fail().code, plugin.fail().details) == (7, "")


@pytest.mark.parametrize("code", ["true", "false", '"7"', "7.0", "null", "-1", "[]", str(1 << 32), "1" + "0" * 300])
def test_an_error_whose_code_is_no_code_is_a_failure_like_any_other(plugin: Plugin, code: str) -> None:
    plugin.write(f"""echo '{{"code": {code}, "msg": "m"}}'; exit 1""")
    error = plugin.fail()
    assert type(error.code) is int
    assert error.code == 104


def test_a_plugin_that_only_complains_is_quoted(plugin: Plugin) -> None:
    plugin.write("echo 'cannot open the lock' >&2; exit 3")
    error = plugin.fail()
    assert error.code == 104
    assert "exit code 3" in error.msg and "ADD" in error.msg
    assert error.details == "cannot open the lock"


def test_only_the_end_of_a_long_complaint_is_quoted(plugin: Plugin) -> None:
    plugin.write("yes x | head -c 3000000 >&2; echo the end >&2; exit 1")
    error = plugin.fail()
    assert error.details.endswith("the end")
    assert len(error.details) <= 1000


def test_a_plugin_that_fails_with_an_answer_has_failed(plugin: Plugin) -> None:
    plugin.write(f"echo '{ANSWER}'; exit 1")
    error = plugin.fail()
    assert error.code == 104
    assert "exit code 1" in error.msg and "10.1.0.2" in error.details


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM", "PIPE"])
def test_a_plugin_that_dies_by_a_signal_is_told(plugin: Plugin, name: str) -> None:
    plugin.write(f"ulimit -c 0; echo '{ANSWER}'; kill -{name} $$; sleep 5")
    error = plugin.fail()
    assert error.code == 104
    assert f"killed by signal {int(signal.Signals[f'SIG{name}'])}" in error.msg


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "must be an object"),
        ("   ", "must be an object"),
        ("null", "must be an object"),
        ("[]", "must be an object"),
        ("{}", "returned no address"),
        ('{"ips": []}', "returned no address"),
        ('{"ip4": {}}', "returned no address"),
        ('{"ips": [{"address": "10.0.0.300/8"}]}', "10.0.0.300"),
        ('{"ips": 1}', "ips"),
        ("{", "printed no JSON"),
        (f"{ANSWER}{ANSWER}", "printed no JSON"),
        (f"warning: x\n{ANSWER}", "printed no JSON"),
        ("NaN", "printed no JSON"),
    ],
)
def test_an_answer_without_an_address_is_a_failure(plugin: Plugin, answer: str, said: str) -> None:
    plugin.write(f"cat <<'end'\n{answer}\nend")
    error = plugin.fail()
    assert error.code == 104
    assert said in error.msg and "'plugin'" in error.msg


def test_an_answer_that_is_no_text_is_quoted(plugin: Plugin) -> None:
    plugin.write("printf '\\377\\376{}'")
    error = plugin.fail()
    assert error.code == 104
    assert error.details == "\\xff\\xfe{}"


@pytest.mark.parametrize("ending", ["", "; exit 1"])
def test_megabytes_are_read_and_refused(plugin: Plugin, ending: str) -> None:
    plugin.write(f"head -c 8000000 /dev/zero | tr '\\0' ' '; echo '{ANSWER}'{ending}")
    error = plugin.fail()
    assert error.code == 104
    assert "more than 1048576 bytes" in error.msg


def test_megabytes_on_stderr_do_not_hold_up_the_answer(plugin: Plugin, capfd: pytest.CaptureFixture[str]) -> None:
    plugin.write(f"yes complaint | head -c 3000000 >&2; echo '{ANSWER}'")
    assert len(plugin.add()) == 1
    assert len(capfd.readouterr().err) == 3000000


# Plugins that do not end


@pytest.mark.parametrize(
    "body",
    [
        "exec sleep 60",
        "trap '' TERM INT HUP; sleep 60; sleep 60",
        f"echo '{ANSWER}'; exec sleep 60",
        "exec >&- 2>&-; exec sleep 60",
    ],
    ids=["silent", "unimpressed", "answered", "closed"],
)
def test_a_plugin_that_does_not_end_is_killed_at_the_deadline(plugin: Plugin, body: str) -> None:
    plugin.write(f"echo $$ > '{plugin.folder}/pid'; {body}")
    start = time.monotonic()
    error = plugin.fail(seconds=0.4)
    assert 0.3 < time.monotonic() - start < 2
    assert error.code == 11
    assert "'plugin'" in error.msg and "timed out" in error.msg
    assert gone(plugin.folder / "pid")


@pytest.mark.parametrize("redirect", ["", ">&2", ">&2 & exec yes"], ids=["stdout", "stderr", "both"])
def test_a_plugin_that_prints_for_ever_is_killed_at_the_deadline(plugin: Plugin, redirect: str, tmp_path: Path) -> None:
    plugin.write(f"echo $$ > '{tmp_path}/pid'; yes {redirect}")
    start = time.monotonic()
    with within(4):
        error = plugin.fail(seconds=0.4)
    assert time.monotonic() - start < 3
    assert error.code == 11
    assert gone(plugin.folder / "pid")


def test_what_a_plugin_started_is_killed_with_it(plugin: Plugin) -> None:
    plugin.write(f"sleep 60 & echo $! > '{plugin.folder}/pid'; wait")
    assert plugin.fail(seconds=0.4).code == 11
    assert gone(plugin.folder / "pid")


def test_a_signal_ends_the_wait_but_not_the_plugin_which_may_be_let_to_its_end(plugin: Plugin) -> None:
    plugin.write(f"echo $$ > '{plugin.folder}/pid'; sleep 0.5; echo done > '{plugin.folder}/done'")
    read, write = os.pipe()
    try:
        delegate = plugin.start()
        written(plugin.folder / "pid")
        os.write(write, b"\x0f")
        with pytest.raises(CniError, match="stopped by a signal"):
            delegate.finish(Deadline(10, (read,)))
    finally:
        os.close(read)
        os.close(write)
    assert not (plugin.folder / "done").exists()
    delegate.end(Deadline(10))
    assert (plugin.folder / "done").exists()
    assert gone(plugin.folder / "pid")


@pytest.mark.parametrize("what", ["sleep 60", "sh -c 'while sleep 0.01; do echo more; done'", "yes"])
def test_something_left_behind_that_holds_stdout_does_not_hold_up_the_answer(plugin: Plugin, what: str) -> None:
    plugin.write(f"{what} & echo $! > '{plugin.folder}/pid'; exec 3>&1; echo '{ANSWER}' >&3")
    start = time.monotonic()
    try:
        try:
            plugin.add(seconds=5)
        except CniError as error:
            if error.code != 104 or what == "sleep 60":  # what it printed in between belongs to the answer
                raise
        assert time.monotonic() - start < 2
    finally:
        written(plugin.folder / "pid")
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((plugin.folder / "pid").read_text()), signal.SIGKILL)
    assert gone(plugin.folder / "pid")


def test_a_plugin_may_be_let_to_its_end(plugin: Plugin) -> None:
    plugin.write(f"sleep 0.2; echo done > '{plugin.folder}/done'; exit 1")
    delegate = plugin.start()
    delegate.end(Deadline(10))
    assert (plugin.folder / "done").exists()
    delegate.end(Deadline(10))  # again is no harm


def test_a_plugin_that_is_let_to_its_end_has_no_longer_than_the_deadline(plugin: Plugin) -> None:
    plugin.write(f"echo $$ > '{plugin.folder}/pid'; exec sleep 60")
    delegate = plugin.start()
    start = time.monotonic()
    delegate.end(Deadline(0.3))
    assert time.monotonic() - start < 2
    assert gone(plugin.folder / "pid")
    delegate.end(Deadline(0.3))


# Any answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["10.0.0.2/8", "fd00::1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["code", "msg", "details", "ips", "address", "gateway", "routes", "dst", "dns", "ip4", "ip"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
).map(json.dumps)
ends = st.sampled_from([0, 0, 1, 255])


@given(json_values.map(str.encode) | st.binary(max_size=30), ends)
@example(b'{"ips": [{"address": "10.0.0.2/8"}], "dns": {"x": 1e400}}', 0)
@example(b'{"ips": [{"address": "10.0.0.2/8", "gateway": 1e400}]}', 0)
@example(b'{"code": 1e400, "msg": "x"}', 1)
@example(b'{"code": true, "msg": "x"}', 1)
@example(b'{"code": 5, "msg": "\\ud800", "details": {"a": "\\ud800"}}', 1)
def test_no_answer_makes_anything_but_a_result_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, answer: bytes, exit_code: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-answer"
    folder.mkdir(exist_ok=True)
    plugin = Plugin(folder)
    if not plugin.path.exists():
        plugin.write(f"cat '{folder}/answer'; read code < '{folder}/code'; exit $code")
    (folder / "answer").write_bytes(answer)
    (folder / "code").write_text(f"{exit_code}\n")
    result = failure = None
    try:
        result = ipam.finish_add(plugin.start(), Deadline(10))
    except CniError as error:
        failure = error
    if result is not None:
        assert exit_code == 0
        for version in VERSIONS:
            json.loads(jsontext.encode(render(result, version)))
    if failure is not None:
        assert type(failure.code) is int
        assert failure.msg
        json.loads(jsontext.encode({"code": failure.code, "msg": failure.msg, "details": failure.details}))
