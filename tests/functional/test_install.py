"""build/cni-ovs-install: what it leaves on a node, and what it removes.

A stand-in takes the plugin's place where the installer alone matters. test_install_failures.py has what happens when it
cannot work, and test_install_in_use.py what happens to runtimes meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from cni_ovs import __version__
from tests.support.installer import (
    INSTALLER,
    MIRROR_PLUGINS,
    age,
    another,
    answers,
    entries,
    goes_on,
    image,
    install,
    linked,
    stopped_while_starting,
)
from tests.support.plugin import PATH, TARGETS
from tests.support.processes import run


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """The node's folder of plugins, which does not exist yet."""
    return tmp_path / "cni bin"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Four images with different stand-ins for the plugin, all of version 1.2.3."""
    made = [image(tmp_path / "image0", stand_in=True)]
    for number in range(1, 4):
        made.append(another(made[-1], tmp_path / f"image{number}"))
    return made


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images with different builds of the plugin."""
    missing = TARGETS["frozen"].missing()
    if missing:
        pytest.fail(missing, pytrace=False)
    folder = tmp_path_factory.mktemp("images")
    made = [image(folder / "0")]
    for number in range(1, 3):
        made.append(another(made[-1], folder / str(number)))
    return made


# What there is afterwards


@pytest.mark.parametrize("tools", ["coreutils", "busybox"])
def test_the_plugin_is_installed_with_the_tools_of(real: list[Path], destination: Path, tools: str) -> None:
    """Its version is in the hidden folder's name; a listing shows `ovs`."""
    path = PATH
    if tools == "busybox":
        applets = destination.parent / "applets"
        applets.mkdir()
        for name in run(["busybox", "--list"]).stdout.split():
            (applets / name).symlink_to(shutil.which("busybox") or "")
        path = str(applets)
    for source in real[:2]:
        run(["/usr/bin/env", "-i", f"PATH={path}", source / INSTALLER, destination])
        assert re.fullmatch(rf"\.ovs-{re.escape(__version__)}-[0-9a-f]{{16}}", linked(destination))
        assert answers(destination / "ovs")
        assert (destination / "ovs").stat().st_mode & 0o777 == 0o755
        assert run(["ls", destination]).stdout.split() == ["ovs", "ovs-mirror-consumer", "ovs-mirror-producer"]
        for name in MIRROR_PLUGINS:
            assert os.readlink(destination / name) == "ovs" and answers(destination / name)
    assert len(entries(destination)) == 3


def test_the_link_is_relative_so_that_it_holds_under_any_mount(images: list[Path], destination: Path) -> None:
    install(images[0], destination)
    assert answers(destination.rename(destination.parent / "elsewhere") / "ovs")


def test_a_destination_that_is_a_link_to_a_folder_is_followed(images: list[Path], destination: Path) -> None:
    target = destination.parent / "target"
    target.mkdir()
    destination.symlink_to("target")
    for source in images:
        install(source, destination)
    assert answers(target / "ovs")
    assert destination.is_symlink()


def test_a_plugin_that_does_not_start_is_not_installed(images: list[Path], destination: Path) -> None:
    program = images[0] / "ovs"
    program.write_text(program.read_text().replace("#!/bin/sh", "#!/not/here"))
    done = run([images[0] / INSTALLER, destination], check=False)
    assert done.returncode == 1
    assert "the plugin does not start on this machine" in done.stderr
    assert entries(destination) == []


def test_installing_the_same_plugin_again_changes_nothing(images: list[Path], destination: Path) -> None:
    install(images[0], destination)
    before = entries(destination), os.lstat(destination / "ovs").st_ino, os.stat(destination).st_mtime_ns
    install(images[0], destination)
    assert (entries(destination), os.lstat(destination / "ovs").st_ino, os.stat(destination).st_mtime_ns) == before


def test_going_back_and_forth_between_two_versions_makes_two_folders(images: list[Path], destination: Path) -> None:
    for _ in range(5):
        versions = {install(source, destination) for source in images[:2]}
    assert entries(destination) == sorted([*versions, "ovs"])


def test_a_damaged_version_is_replaced_by_another_folder_and_not_touched(images: list[Path], destination: Path) -> None:
    """Commands may be running from it, and may not have met the damage."""
    damaged = install(images[0], destination)
    (destination / damaged / "ovs").write_bytes(b"")
    inode = (destination / damaged).stat().st_ino
    assert install(images[0], destination) == f"{damaged}.1"
    assert (destination / damaged).stat().st_ino == inode
    assert (destination / damaged / "ovs").read_bytes() == b""


def test_a_program_copied_by_hand_is_replaced_and_other_files_are_not_touched(
    images: list[Path], destination: Path
) -> None:
    destination.mkdir()
    others = {"bridge", "ovs-mirror", "ovs.conf", ".ovs-notes", ".hidden"}
    for name in (*others, "ovs", *MIRROR_PLUGINS):  # the latter are ovs-cni's, perhaps
        (destination / name).write_text("not ours\n")
    version = install(images[0], destination)
    assert all(answers(destination / name) for name in ("ovs", *MIRROR_PLUGINS))
    assert entries(destination) == sorted([*others, "ovs", version])
    assert all((destination / name).read_text() == "not ours\n" for name in others)


def test_root_without_any_capability_is_enough(images: list[Path], destination: Path) -> None:
    """As in the DaemonSet; and what was copied by hand may belong to somebody else."""
    destination.mkdir()
    (destination / "ovs").write_text("copied by hand")
    os.chown(destination / "ovs", 1000, 1000)
    wrapper = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
    versions = [install(source, destination, *wrapper) for source in images]
    assert len(entries(destination)) == 5
    for number, version in enumerate(versions):
        age(destination / version, minutes=300 - number)
    install(images[-1], destination, *wrapper)
    assert entries(destination) == sorted([*versions[-2:], "ovs"])


@pytest.mark.parametrize("text", ["nowhere", "../elsewhere", "folder/ovs", "/usr/bin/true"])
def test_a_link_that_somebody_else_made_is_replaced_alone(images: list[Path], destination: Path, text: str) -> None:
    (destination / "folder").mkdir(parents=True)
    (destination / "folder/ovs").write_text("not ours\n")
    (destination / "ovs").symlink_to(text)
    version = install(images[0], destination)
    assert entries(destination) == sorted([version, "folder", "ovs"])
    assert (destination / "folder/ovs").read_text() == "not ours\n"


# What is removed, and when


def test_every_version_of_the_last_two_hours_stays(images: list[Path], destination: Path) -> None:
    versions = []
    for source in images:
        versions.append(install(source, destination))
        # The time that counts is that of the replacement, not of the installation.
        age(destination / versions[-1], minutes=300)
    assert len(set(versions)) == 4
    assert entries(destination) == sorted(["ovs", *versions])
    for version in versions[:-1]:
        age(destination / version, minutes=110)
    install(images[-1], destination)
    assert entries(destination) == sorted(["ovs", *versions])


def test_of_older_ones_only_the_last_that_was_replaced_stays(images: list[Path], destination: Path) -> None:
    versions = [install(source, destination) for source in images]
    for number, version in enumerate(versions):
        age(destination / version, minutes=300 - number)
    install(images[-1], destination)
    assert entries(destination) == sorted(["ovs", *versions[-2:]])


@pytest.mark.parametrize("wrapper", [[], ["unshare", "--pid", "--fork", "--mount-proc"]], ids=["node", "container"])
def test_a_version_stays_while_a_process_executes_it(
    real: list[Path], destination: Path, wrapper: Sequence[str]
) -> None:
    """Also one that the installer cannot see, as in a DaemonSet."""
    versions = [install(real[0], destination)]
    process = stopped_while_starting(destination / "ovs")
    try:
        versions += [install(source, destination) for source in real[1:]]
        for _ in range(3):
            for version in versions[:2]:
                age(destination / version, minutes=10000)
            install(real[-1], destination, *wrapper)
        assert entries(destination) == sorted(["ovs", *versions])
        goes_on(process)
    finally:
        process.kill()
        process.communicate(timeout=5)
    age(destination / versions[0], minutes=10000)
    install(real[-1], destination, *wrapper)
    assert entries(destination) == sorted(["ovs", *versions[1:]])


def test_a_version_that_another_run_may_be_removing_is_not_taken_again(images: list[Path], destination: Path) -> None:
    first = install(images[0], destination)
    second = install(images[1], destination)
    age(destination / first, minutes=59)
    assert install(images[0], destination) == first
    install(images[1], destination)
    age(destination / first, minutes=61)
    assert install(images[0], destination) == f"{first}.1"
    assert entries(destination) == sorted([first, f"{first}.1", second, "ovs"])


def test_what_a_killed_run_left_is_removed_but_not_what_a_live_one_needs(images: list[Path], destination: Path) -> None:
    for name in ("dead", "young", "live"):
        (destination / f".ovs.tmp.{name}/new").mkdir(parents=True)
    for name in ("dead", "live"):
        os.mkfifo(destination / f".ovs.tmp.{name}/alive")
    pipe = os.open(destination / ".ovs.tmp.live/alive", os.O_RDWR)
    try:
        version = install(images[0], destination)
    finally:
        os.close(pipe)
    assert entries(destination) == sorted([".ovs.tmp.live", version, "ovs"])
