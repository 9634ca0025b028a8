"""build/install, as the DaemonSet and the container image run it: replacing the plugin under a runtime that uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.plugin import REPOSITORY, TARGETS
from tests.support.processes import run, wait_for

DIST = REPOSITORY / "dist"
IMAGE_FOLDER = "/opt/cni-ovs"  # where the Dockerfile puts installer and plugin
SHELLS = {"sh": ("sh",), "busybox": ("busybox", "sh")}

FORMS = pytest.mark.parametrize("options", [[], ["--folder"]], ids=["file", "folder"])


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as /opt/cni-ovs is in the container image."""
    for target in (TARGETS["onefile"], TARGETS["onedir"]):
        missing = target.missing()
        if missing:
            pytest.fail(missing, pytrace=False)
    folder = tmp_path_factory.mktemp("image") / "cni-ovs"
    shutil.copytree(DIST / "ovs.d", folder / "ovs.d", symlinks=True)
    for program in (DIST / "ovs", REPOSITORY / "build/install"):
        shutil.copy2(program, folder)
    return folder


@pytest.fixture
def other_version(image_folder: Path, tmp_path: Path) -> Path:
    """The same with a plugin of different content, as after an update."""
    folder = tmp_path / "other"
    shutil.copytree(image_folder, folder, symlinks=True)
    change(folder)
    return folder


def change(folder: Path) -> None:
    """Makes the plugin of a folder another one, which works all the same."""
    with (folder / "ovs.d/changes").open("a") as file:
        file.write("one more\n")
    with (folder / "ovs").open("ab") as binary:
        binary.write(b"\0")


def answers(binary: Path) -> bool:
    """True when the plugin starts and answers VERSION."""
    environment = {"CNI_COMMAND": "VERSION", "TMPDIR": str(binary.parent.parent)}
    return "supportedVersions" in json.loads(run([binary], stdin="{}", env=environment).stdout)


@contextmanager
def in_use(binary: Path) -> Iterator[list[str]]:
    """Two runtimes that start the plugin over and over while the block lasts; the list is what they saw fail."""
    failures: list[str] = []
    starts = [0, 0]
    enough = threading.Event()

    def runtime(number: int) -> None:
        while not enough.is_set():
            try:
                if not answers(binary):
                    failures.append("no answer")
            except (OSError, AssertionError, ValueError, subprocess.SubprocessError) as failure:
                failures.append(repr(failure))
            starts[number] += 1

    threads = [threading.Thread(target=runtime, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_for("the plugin is in use", lambda: min(starts) >= 2)
        yield failures
        seen = list(starts)
        wait_for("it was started afterwards too", lambda: all(n > s + 1 for n, s in zip(starts, seen, strict=True)))
    finally:
        enough.set()
        for thread in threads:
            thread.join(30)


def entries(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def daemonset_command(image_folder: Path, destination: Path) -> list[str]:
    """The DaemonSet's command, with the image's and the node's folder replaced by the test's."""
    daemonset = yaml.safe_load((REPOSITORY / "conf/kubernetes/daemonset.yaml").read_text())
    (container,) = daemonset["spec"]["template"]["spec"]["initContainers"]
    (mount,) = container["volumeMounts"]
    words = [*container["command"], *container.get("args", [])]
    assert mount["mountPath"] in words
    places = {mount["mountPath"]: str(destination), f"{IMAGE_FOLDER}/install": str(image_folder / "install")}
    assert set(places) <= set(words)
    return [places.get(word, word) for word in words]


def test_the_daemonsets_command_replaces_a_plugin_in_use_without_any_failure(
    image_folder: Path, other_version: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "cni-bin"
    run(daemonset_command(image_folder, destination))
    with in_use(destination / "ovs") as failures:
        for folder in (other_version, image_folder, other_version):
            run(daemonset_command(folder, destination))
    assert failures == []


def test_a_plugin_in_use_is_replaced_by_the_other_form_and_back_without_any_failure(
    image_folder: Path, tmp_path: Path
) -> None:
    """Here the executables differ in everything, so a plugin that opens its own file again would notice."""
    destination = tmp_path / "cni-bin"
    run([image_folder / "install", destination])
    with in_use(destination / "ovs") as failures:
        for _ in range(5):
            run([image_folder / "install", "--folder", destination])
            run([image_folder / "install", destination])
    assert failures == []


def test_writing_into_a_plugin_in_use_would_have_failed(image_folder: Path, tmp_path: Path) -> None:
    """The danger is real on this machine, so the tests above would have seen it."""
    binary = tmp_path / "cni-bin/ovs"
    run([image_folder / "install", binary.parent])
    # With these variables the plugin waits for its configuration on stdin.
    variables = {"COMMAND": "ADD", "CONTAINERID": "c", "NETNS": "/proc/self/ns/net", "IFNAME": "eth0", "PATH": "/"}
    environment = {f"CNI_{key}": value for key, value in variables.items()} | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([binary], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with pytest.raises(OSError, match="Text file busy"):
            binary.open("r+b")
    finally:
        process.communicate(timeout=10)


@pytest.mark.parametrize("shell", SHELLS)
@FORMS
def test_the_installed_plugin_answers(image_folder: Path, tmp_path: Path, shell: str, options: Sequence[str]) -> None:
    destination = tmp_path / "not there yet/cni-bin"
    run([*SHELLS[shell], image_folder / "install", *options, destination])
    assert answers(destination / "ovs")
    assert [name for name in entries(destination) if name.startswith(".")] == []
    assert os.stat(destination / "ovs").st_mode & 0o777 == 0o755


@FORMS
def test_the_link_is_relative_so_that_it_holds_under_any_mount(
    image_folder: Path, tmp_path: Path, options: Sequence[str]
) -> None:
    run([image_folder / "install", *options, tmp_path / "cni-bin"])
    moved = (tmp_path / "cni-bin").rename(tmp_path / "elsewhere")
    assert answers(moved / "ovs")


@FORMS
def test_only_what_was_in_use_before_an_update_stays_beside_the_new_plugin(
    image_folder: Path, other_version: Path, tmp_path: Path, options: Sequence[str]
) -> None:
    destination = tmp_path / "cni-bin"
    third = tmp_path / "third"
    shutil.copytree(other_version, third, symlinks=True)
    change(third)
    links = []
    for folder in (image_folder, other_version, third):
        run([folder / "install", *options, destination])
        links.append(os.readlink(destination / "ovs").partition("/")[0])
    assert len(set(links)) == 3
    assert entries(destination) == sorted(["ovs", *links[1:]])


@FORMS
def test_installing_the_same_plugin_again_changes_nothing(
    image_folder: Path, tmp_path: Path, options: Sequence[str]
) -> None:
    destination = tmp_path / "cni-bin"
    run([image_folder / "install", *options, destination])
    inode = os.stat(destination / "ovs").st_ino
    before = entries(destination)
    run([image_folder / "install", *options, destination])
    assert entries(destination) == before
    assert os.stat(destination / "ovs").st_ino == inode


@FORMS
def test_a_damaged_plugin_is_repaired(image_folder: Path, tmp_path: Path, options: Sequence[str]) -> None:
    destination = tmp_path / "cni-bin"
    run([image_folder / "install", *options, destination])
    (destination / "ovs").resolve().write_bytes(b"")
    run([image_folder / "install", *options, destination])
    assert answers(destination / "ovs")


def test_other_plugins_in_the_folder_are_not_touched(image_folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "cni-bin"
    destination.mkdir()
    others = {"bridge", "ovs-mirror-producer", "ovs.conf"}
    for name in others:
        (destination / name).write_text("another plugin\n")
    (destination / "ovs").write_text("a plugin of the same name, from somebody else\n")
    run([image_folder / "install", destination])
    assert set(entries(destination)) == {*others, "ovs", os.readlink(destination / "ovs")}
    assert answers(destination / "ovs")


def test_an_install_without_a_built_plugin_says_what_to_do_and_changes_nothing(
    image_folder: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run([image_folder / "install", "--from", empty, tmp_path / "cni-bin"], check=False)
    assert done.returncode == 1
    assert "build/binary" in done.stderr
    assert not (tmp_path / "cni-bin").exists()


@pytest.mark.parametrize("words", [[], ["--unknown", "x"], ["one", "two"], ["--from"], [""]])
def test_a_wrong_command_line_is_answered_with_the_usage(image_folder: Path, words: Sequence[str]) -> None:
    done = run([image_folder / "install", *words], check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr
