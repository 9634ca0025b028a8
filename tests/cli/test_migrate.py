"""`cni-ovs migrate`: files are rewritten whole or not at all, and what comes out means what it meant to ovs-cni."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.functional.test_ovs_cni import theirs
from tests.support.cli import PYTHON
from tests.support.node import Node
from tests.support.plugin import PATH, REPOSITORY, Json

ENVIRONMENT = {"PATH": PATH, "PYTHONPATH": str(REPOSITORY)}
BASE: Json = {"cniVersion": "1.0.0", "name": "n", "type": "ovs", "bridge": "b"}
OLD = json.dumps({**BASE, "vlan": 5, "trunk": [{"id": 7}, {"minID": 9}]}, indent=2)
NEW = json.dumps({**BASE, "trunk": [{"id": 7}]}, indent=2)
DEFINITION = """\
# networks
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: a} # one
spec:
  config: '{"cniVersion": "1.0.0", "type": "ovs", "vlan": 5,
    "bridge": "b", "trunk": [{"id": 7}]}'
"""


def migrate(*words: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [PYTHON, "-m", "cni_ovs.cli", "migrate", *words],
        input=stdin, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "10-n.conf"
    path.write_text(OLD)
    return path


def test_without_write_nothing_is_changed(file: Path) -> None:
    lines = migrate(str(file)).stdout.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["change", "note", "change", "keeps of 'n'"]
    assert lines[0].startswith(f"{file}:6:3: change: 'vlan'")
    assert file.read_text() == OLD and list(file.parent.iterdir()) == [file]


def test_with_write_a_file_is_replaced_and_what_was_there_is_kept(file: Path) -> None:
    file.chmod(0o640)
    os.chown(file, 65534, 65534)
    inode = file.stat().st_ino
    assert f"written; before: {file}.bak" in migrate("--write", str(file)).stdout
    backup = Path(f"{file}.bak")
    assert (file.read_text(), backup.read_text()) == (NEW, OLD)
    assert {(path.stat().st_mode & 0o7777, path.stat().st_uid) for path in (file, backup)} == {(0o640, 65534)}
    assert file.stat().st_ino != inode  # whoever had it open reads what was there
    assert sorted(path.name for path in file.parent.iterdir()) == ["10-n.conf", "10-n.conf.bak"]
    migrate("--write", str(file))
    assert (file.read_text(), backup.read_text()) == (NEW, OLD)  # a second time there is nothing to change


def test_a_backup_that_is_there_is_not_overwritten(file: Path) -> None:
    backup = Path(f"{file}.bak")
    backup.write_text("mine")
    os.setxattr(file, "user.mine", b"1")
    assert f"before: {file}.bak2" in migrate("--write", str(file)).stdout
    assert (file.read_text(), backup.read_text(), Path(f"{file}.bak2").read_text()) == (NEW, "mine", OLD)
    assert os.getxattr(file, "user.mine") == b"1"
    file.write_text(OLD)  # the same again needs no further one
    assert f"before: {file}.bak2" in migrate("--write", str(file)).stdout
    assert sorted(path.name for path in file.parent.iterdir()) == ["10-n.conf", "10-n.conf.bak", "10-n.conf.bak2"]


def test_a_disk_that_is_full_is_a_failure_that_leaves_the_file(file: Path) -> None:
    file.write_text(OLD.replace('"b"', '"b", "external_ids": {"a": "' + "x" * 5000 + '"}'))
    before = file.read_text()
    script = 'file=$1; mount -t tmpfs -o size=12k none "$0" && cat > "$file" && shift && "$@"; ls "$0"; cat "$file"'
    wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(file.parent), str(file)]
    command = [*wrapper, str(PYTHON), "-m", "cni_ovs.cli", "migrate", "--write", str(file)]
    done = subprocess.run(
        command, input=before, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
    )
    told, _, rest = done.stdout.partition("\n")
    assert told == f"{file}: error: cannot be written: No space left on device"
    assert rest == f"{file.name}\n{before}"


def test_a_folder_is_gone_through_and_a_symbolic_link_stays_one(file: Path) -> None:
    folder = file.parent / "net.d"
    (folder / "ovs.d").mkdir(parents=True)
    (folder / "link.conf").symlink_to(file)
    (folder / "ovs.d/ovs.conf").write_text('{"vlan": 5, "trunk": [{"id": 7}]}')
    (folder / "x.yaml").write_bytes(b"\xef\xbb\xbf" + DEFINITION.replace("\n", "\r\n").encode())
    migrate("--write", str(folder))
    assert (folder / "link.conf").is_symlink() and file.read_text() == NEW
    assert (folder / "ovs.d/ovs.conf").read_text() == '{"trunk": [{"id": 7}]}'
    written = (folder / "x.yaml").read_bytes()
    assert written == b"\xef\xbb\xbf" + DEFINITION.replace(' "vlan": 5,\n   ', "\n   ").replace("\n", "\r\n").encode()
    files = {path.name for path in folder.rglob("*")}
    assert files == {"link.conf", "ovs.d", "ovs.conf", "ovs.conf.bak", "x.yaml", "x.yaml.bak"}


def test_stdin_is_printed_changed_and_the_report_is_on_stderr() -> None:
    done = migrate("--write", "-", stdin=DEFINITION)
    assert done.stdout == DEFINITION.replace(' "vlan": 5,\n   ', "\n   ")
    assert "<stdin>:6:51: change: 'vlan'" in done.stderr
    assert migrate("--write", "-", stdin=done.stdout).stdout == done.stdout
    other = "kind: Pod # another\n"
    assert migrate("--write", "-", stdin=other).stdout == other


def test_json_is_for_programs(file: Path) -> None:
    entry = json.loads(migrate("--json", "--write", str(file)).stdout)["files"][0]
    assert (entry["path"], entry["backup"]) == (str(file), f"{file}.bak")
    [definition] = entry["definitions"]
    assert definition["name"] == "n" and definition["keeps"] == ["cniVersion", "name", "type", "bridge"]
    assert [(found["key"], found["line"], found["column"]) for found in definition["changes"]] == [
        ("vlan", 6, 3),
        ("trunk", 11, 5),
    ]
    assert definition["differs"] == definition["errors"] == []
    migrate("--json", "--write", "-", code=2)


def test_what_only_a_person_can_change_is_exit_code_1(file: Path) -> None:
    file.write_text(json.dumps({**BASE, "socket_file": "ssl:1.2.3.4:6640"}))
    assert "error: invalid 'socket_file'" in migrate(str(file), code=1).stdout


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[1]", b"{}", b"null"])
def test_what_is_none_is_left_alone(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    done = migrate("--write", str(file), code=1 if text in (b"{", b"\xff") else 0)
    assert file.read_bytes() == text and "written" not in done.stdout


def test_a_folder_that_cannot_be_written_to_is_a_failure_that_leaves_the_file(file: Path) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(file.parent)]
    command = [*wrapper, str(PYTHON), "-m", "cni_ovs.cli", "migrate", "--write", str(file)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "cannot be written: Read-only file system" in done.stdout
    assert file.read_text() == OLD and list(file.parent.iterdir()) == [file]


@pytest.mark.one_target
@pytest.mark.parametrize(
    "keys",
    [
        {"vlan": 5, "trunk": [{"id": 7}]},
        {"trunk": [{"id": 7}, {"minID": 9}]},
        {"trunk": [{"id": 7}, {"maxID": 9}, {"minID": 0, "maxID": 3}]},
        {"trunk": [{"id": 7, "minID": 9}, {"minID": 11, "maxID": 12}], "vlan": 0},
    ],
)
def test_a_definition_means_here_what_it_has_meant_to_ovs_cni(node: Node, keys: Json) -> None:
    other = node.attachment(cniVersion="1.0.0", **keys)
    theirs(other, "ADD")
    (name,) = node.openvswitch.port_names(node.bridge)
    columns = ("tag", "trunks", "vlan_mode")
    meant = [node.openvswitch.row("Port", name)[column] for column in columns]
    other.delete().silent()
    changed = json.loads(migrate("--write", "-", stdin=json.dumps(other.config)).stdout)
    ours = node.attachment()
    ours.config = changed
    ours.add().ok()
    assert [node.port(ours)[column] for column in columns] == meant
    ours.delete().silent()
    node.assert_nothing_left()
