"""`cni-ovs validate`, as a person and as a program uses it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.cli import PYTHON
from tests.support.plugin import PATH, REPOSITORY

ENVIRONMENT = {"PATH": PATH, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "80"}
WRONG = '{\n\t"cniVersion": "1.0.0", "name": "n", "type": "ovs",\n\t"bridge": "b", "vlna": 5,\n\t"mtu": 5\n}\n'


def validate(*words: str, stdin: str = "", code: int = 0) -> str:
    """What it prints, when it ends with this exit code."""
    done = subprocess.run(
        [PYTHON, "-m", "cni_ovs.cli", "validate", *words],
        input=stdin, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_examples_are_right() -> None:
    assert validate(str(REPOSITORY / "conf"), str(REPOSITORY / "conf/kubernetes")) == ""


def test_mistakes_are_told_as_compilers_do(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text(WRONG)
    assert validate(str(path), code=1).splitlines() == [
        f"{path}:3:17: error: unknown key 'vlna' in the network configuration is ignored",
        f"{path}:3:17: note: did you mean 'vlan'?",
        f"{path}:4:9: error: invalid 'mtu': 5: must be an integer from 68 to 65535",
    ]


def test_those_of_all_files_are_told(tmp_path: Path) -> None:
    for name in ("1.conf", "2.json", "3.yaml", "4.txt"):
        (tmp_path / name).write_text("{")
    (tmp_path / "ovs.d").mkdir()
    (tmp_path / "ovs.d/ovs.conf").write_text('{"mtu": 5}')
    output = validate(str(tmp_path), "/no/such/file.conf", code=1)
    for name in ("1.conf:1:2: ", "2.json:1:2: ", "3.yaml:1:2: ", "ovs.d/ovs.conf:1:9: ", "/no/such/file.conf: error: "):
        assert name in output
    assert "4.txt" not in output


def test_json_is_for_programs() -> None:
    found = json.loads(validate("-", "--json", stdin=WRONG, code=1))
    assert found["files"] == ["-"] and found["configurations"] == 1 and (found["errors"], found["warnings"]) == (2, 0)
    assert found["problems"][1] == {
        "path": "<stdin>",
        "line": 4,
        "column": 9,
        "severity": "error",
        "message": "invalid 'mtu': 5: must be an integer from 68 to 65535",
        "remedy": "",
    }


def test_a_warning_is_no_failure() -> None:
    text = '{"cniVersion": "1.0.0", "name": "n", "type": "ovs", "bridge": "b", "ipam": {"x": 1}}'
    assert "warning: 'ipam' has no 'type'" in validate("-", stdin=text)


@pytest.mark.parametrize("text", ["", "a: b", "kind: Pod\napiVersion: v1\n"])
def test_kubernetes_objects_of_other_kinds_are_passed_over(text: str) -> None:
    assert validate("-", stdin=text) == ""
    nothing = {"files": ["-"], "problems": [], "configurations": 0, "errors": 0, "warnings": 0}
    assert json.loads(validate("-", "--json", stdin=text)) == nothing


def test_without_an_argument_the_folders_of_the_node_are_looked_at(tmp_path: Path) -> None:
    for name in ("net.d", "multus"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.conflist").write_text("[]")
    folders = [word for name in ("net.d", "multus", "none") for word in ("--conf-dir", str(tmp_path / name))]
    assert len(validate(*folders, code=1).splitlines()) == 2
    done = subprocess.run(
        [PYTHON, "-m", "cni_ovs.cli", "validate", "--conf-dir", str(tmp_path / "none")],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "no network configuration is in" in done.stderr


HOSTILE: dict[str, bytes] = {
    "nested.json": b"[" * 200_000,
    "nested.conf": b'{"type":"ovs","name":"n","bridge":"b","ipam":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "nested.yaml": b"[" * 200_000,
    "large.conf": b'{"type": "ovs", "x": "' + b"y" * 5_000_000 + b'"}',
    "large.yaml": b"a: " + b"y" * 5_000_000,
    "wide.conf": b'{"type":"ovs","trunk":[' + b",".join([b'{"id":9999}'] * 50_000) + b"]}",
    "keys.conf": b'{"type":"ovs",' + b",".join(b'"brigde%d":1' % number for number in range(50_000)) + b"}",
    "twice.conf": b'{"type":"ovs",' + b",".join([b'"mtu":1'] * 50_000) + b"}",
    "latin.yaml": b"a: \xe4",
    "control.conf": b'{"type": "ovs", "\x1b[31m": 1}',
    "escaped.conf": b'{"type": "ovs", "name": "n", "bridge": "\\u001b[31m", "\\u001b]0;x\\u0007": 1}',
}


@pytest.mark.parametrize("command", ["validate", "migrate"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_of_soon_and_shortly(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    done = subprocess.run(
        [PYTHON, "-m", "cni_ovs.cli", command, str(tmp_path / name)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == (0 if name == "large.yaml" else 1) and "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) < 220 and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines()), default=0) < 600


def test_a_file_that_may_not_be_read_is_told_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:  # that of pytest is closed to others
        path = Path(folder) / "x.conf"
        path.write_text(WRONG)
        path.chmod(0o600)
        Path(folder).chmod(0o755)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*user, str(PYTHON), "-B", "-m", "cni_ovs.cli", "validate", str(path), "-"]
        done = subprocess.run(
            command, input=WRONG, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}: error: cannot be read: Permission denied\n{path}: note: run it as root\n")
    assert "<stdin>:4:9: error" in done.stdout  # the others are told of all the same


def test_whoever_reads_the_output_may_go_away(tmp_path: Path) -> None:
    (tmp_path / "x.conf").write_bytes(HOSTILE["wide.conf"])
    command = f"{PYTHON} -m cni_ovs.cli validate {tmp_path} | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=20
    )
    assert len(done.stdout.splitlines()) == 1 and "Traceback" not in done.stderr


def test_on_a_terminal_the_line_is_shown_with_the_place_marked_and_nothing_steers_it(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    long = '{"cniVersion": "1.0.0", "name": "n", "type": "ovs", "bridge": "b", "\\u001b[31m世\x1b": 1, "mtu": 5}'
    path.write_text(WRONG.replace('"b",', '"世",'))
    (tmp_path / "y.conf").write_text(long.replace("\x1b", ""))
    primary, secondary = pty.openpty()
    command = [str(PYTHON), "-m", "cni_ovs.cli", "validate", str(path), str(tmp_path / "y.conf")]
    environment = {**ENVIRONMENT, "NO_COLOR": "1", "TERM": "dumb"}
    process = subprocess.Popen(command, stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    shown = b""
    try:
        while data := os.read(primary, 4096):
            shown += data
    except OSError:
        pass  # the other end is closed
    os.close(primary)
    assert process.wait(30) == 1
    lines = [line.rstrip() for line in shown.decode().splitlines()]
    at = lines.index('  "bridge": "世", "vlna": 5,')
    assert lines[at + 1] == " " * 18 + "^" + "~" * 5  # a wide character takes two columns
    assert b"\x1b[31m" not in shown
    assert lines[-1] == "2 files, 2 network configurations, 4 errors, 0 warnings"
