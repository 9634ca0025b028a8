"""build/cni-ovs-install under runtimes that execute the plugin all the time: no command may notice."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.installer import (
    INSTALLER,
    another,
    answers,
    entries,
    goes_on,
    image,
    install,
    linked,
    stopped_while_starting,
)
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import REPOSITORY, TARGETS, Attachment, Outcome, Target
from tests.support.processes import run, wait_for

IMAGE_FOLDER = "/opt/cni-ovs"  # where the Dockerfile puts installer and plugin


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four images with different builds of the plugin."""
    missing = TARGETS["frozen"].missing()
    if missing:
        pytest.fail(missing, pytrace=False)
    folder = tmp_path_factory.mktemp("images")
    made = [image(folder / "0")]
    for number in range(1, 4):
        made.append(another(made[-1], folder / str(number)))
    return made


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """The node's folder of plugins."""
    folder = tmp_path / "cni-bin"
    folder.mkdir()
    return folder


@contextmanager
def repeated(*actions: Callable[[], object]) -> Iterator[list[str]]:
    """Does each action over and over, all at once, while the block lasts; the list is what failed of them."""
    failures: list[str] = []
    counts = [0] * len(actions)
    enough = threading.Event()

    def worker(number: int) -> None:
        while not enough.is_set():
            try:
                actions[number]()
            except (OSError, AssertionError, ValueError, subprocess.SubprocessError) as failure:
                failures.append(repr(failure))
            counts[number] += 1

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    try:
        wait_for("all were done", lambda: min(counts) >= 1, timeout=30)
        yield failures
        seen = list(counts)
        wait_for("all were done again", lambda: all(n > s + 1 for n, s in zip(counts, seen, strict=True)), timeout=30)
    finally:
        enough.set()
        for thread in threads:
            thread.join(60)


class Watch:
    """Looks, all the time, which version `ovs` is and which versions are being executed."""

    def __init__(self, destination: Path) -> None:
        """Looks while it is used as a context manager."""
        self._destination = destination
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.processes: set[tuple[int, str]] = set()  # process id, version
        self.outlived: set[tuple[int, str]] = set()  # the same, seen when `ovs` was another version already
        self.at_once = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._enough.wait(0.02):
            version = linked(self._destination)
            seen = {
                (pid, Path(program).parent.name)
                for pid, program in _programs()
                if program.startswith(f"{self._destination}/")
            }
            self.processes |= seen
            self.at_once = max(self.at_once, len(seen))
            if linked(self._destination) == version:
                self.outlived |= {(pid, executed) for pid, executed in seen if executed != version}


def _programs() -> Iterator[tuple[int, str]]:
    """The process ids of all processes, and what they execute."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), os.readlink(f"/proc/{name}/exe")
            except OSError:  # it has ended, or is a thread of the kernel
                continue


def test_50_swaps_under_8_adds_and_dels_at_once(
    images: list[Path], destination: Path, openvswitch: PrivateOpenVSwitch, tmp_path: Path
) -> None:
    versions = [install(source, destination) for source in images[:2]]
    node = Node(openvswitch, Target("installed", (str(destination / "ovs"),)), tmp_path)
    try:
        pods = [node.attachment(vlan=5) for _ in range(8)]
        commands = Counter[str]()

        def comes_and_goes(pod: Attachment) -> None:
            added = pod.add()
            deleted = pod.delete()
            commands.update({"ADD": 1, "DEL": 1})
            added.ok()
            deleted.silent()

        watch = Watch(destination)
        with watch, repeated(*(lambda pod=pod: comes_and_goes(pod) for pod in pods)) as failures:
            for source in itertools.islice(itertools.cycle(images[:2]), 50):
                before = linked(destination)
                # The commands take all the time that there is; the installer gets it first, so that the test ends.
                assert install(source, destination, "nice", "-n", "-10") != before
        assert failures == []
        assert len(set(versions)) == 2
        assert entries(destination) == sorted([*versions, "ovs"])
        node.assert_nothing_left()
    finally:
        node.clean()
    # The swaps did happen under commands: of both versions some were executed, and some when `ovs` was the other one.
    assert watch.at_once >= 8
    for version in versions:
        assert len([1 for _, executed in watch.processes if executed == version]) >= 50, commands
        assert len([1 for _, executed in watch.outlived if executed == version]) >= 25, commands


def test_a_plugin_copied_by_hand_is_replaced_under_load(images: list[Path], destination: Path, tmp_path: Path) -> None:
    copied = Path(TARGETS["frozen"].command[0])
    shutil.copy2(copied, destination / "ovs")
    with repeated(*[lambda: answers(destination / "ovs")] * 8) as failures:
        for _ in range(20):
            version = install(images[0], destination)
            # Back to the beginning, also under load: a program is whole whatever becomes of its name.
            shutil.copy2(copied, destination / "new")
            (destination / "new").rename(destination / "ovs")
        install(images[0], destination)
    assert failures == []
    assert entries(destination) == [version, "ovs"]


def test_a_process_stopped_while_it_starts_needs_no_file_any_more(images: list[Path], destination: Path) -> None:
    shutil.copy2(TARGETS["frozen"].command[0], destination / "ovs")
    process = stopped_while_starting(destination / "ovs")
    try:
        shutil.rmtree(destination)
        goes_on(process)
    finally:
        process.kill()
        process.communicate(timeout=5)


def test_a_process_stopped_while_it_starts_survives_three_updates(images: list[Path], destination: Path) -> None:
    install(images[0], destination)
    processes = [stopped_while_starting(destination / "ovs") for _ in range(4)]
    try:
        for source in images[1:]:
            install(source, destination)
        for process in processes:
            goes_on(process)
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=5)


def daemonset_command(image_folder: Path, destination: Path) -> list[str]:
    """The DaemonSet's command, with the image's and the node's folder replaced by the test's."""
    daemonset = yaml.safe_load((REPOSITORY / "conf/kubernetes/daemonset.yaml").read_text())
    (container,) = daemonset["spec"]["template"]["spec"]["initContainers"]
    (mount,) = container["volumeMounts"]
    words = [*container["command"], *container.get("args", [])]
    places = {mount["mountPath"]: str(destination), f"{IMAGE_FOLDER}/{INSTALLER}": str(image_folder / INSTALLER)}
    assert set(places) <= set(words)
    return [places.get(word, word) for word in words]


def test_the_daemonsets_command_replaces_a_plugin_in_use(images: list[Path], destination: Path) -> None:
    run(daemonset_command(images[0], destination))
    with repeated(*[lambda: answers(destination / "ovs")] * 2) as failures:
        for source in images[1:]:
            run(daemonset_command(source, destination))
    assert failures == []


def test_writing_into_a_plugin_in_use_would_have_failed(images: list[Path], destination: Path) -> None:
    """The danger is real on this machine; and the installer takes this as the sign that a program is executed."""
    install(images[0], destination)
    process = stopped_while_starting(destination / "ovs")
    try:
        with pytest.raises(OSError, match="Text file busy"):
            (destination / "ovs").open("r+b")
    finally:
        process.kill()
        process.communicate(timeout=5)


# Runs the plugin with an own file system, mounted with some option, as temporary folder, and in a PID namespace, which
# gives out process and thread ids one after the other. Reports how many the plugin took, and what it left.
COUNTED = """
option=$1 temporary=$2 report=$3
shift 3
mount -t tmpfs -o "$option" tmpfs "$temporary" || exit
before=$(sh -c 'echo $$')
"$@"
code=$?
after=$(sh -c 'echo $$')
{ echo $((after - before - 1)); ls -A "$temporary"; } >"$report"
exit $code
"""


@dataclass(frozen=True)
class Counted:
    """A command of the plugin, and how it was run."""

    outcome: Outcome
    processes: int
    left: list[str]


def counted(node: Node, pod: Attachment, command: str, option: str) -> Counted:
    """Runs a command with such a temporary folder."""
    report = node.folder / "report"
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")
    wrapper = (*namespaces, "sh", "-c", COUNTED, "sh", option, str(node.temporary), str(report))
    outcome = node.plugin.run(pod.environment(command), pod.stdin(command), wrapper=wrapper)
    processes, *left = report.read_text().split()
    return Counted(outcome, int(processes), left)


def test_the_installed_plugin_is_one_process_that_extracts_nothing_where_tmp_is_noexec(
    images: list[Path], destination: Path, openvswitch: PrivateOpenVSwitch, tmp_path: Path
) -> None:
    install(images[0], destination)
    node = Node(openvswitch, Target("installed", (str(destination / "ovs"),)), tmp_path)
    try:
        pod = node.attachment()
        for command in ("ADD", "CHECK", "DEL"):
            seen = counted(node, pod, command, "noexec")
            assert seen.outcome.exit_code == 0 and seen.processes == 1 and seen.left == [], seen
            if command == "ADD":
                pod.result = seen.outcome.result
        node.assert_nothing_left()
    finally:
        node.clean()


def test_another_process_a_file_and_noexec_would_have_been_seen(
    openvswitch: PrivateOpenVSwitch, tmp_path: Path
) -> None:
    """What the test above looks at can be seen."""
    program = TARGETS["frozen"].command[0]
    extracting = f'cp {program} "$TMPDIR/ovs"; "$TMPDIR/ovs"; exit'
    node = Node(openvswitch, Target("extracting", ("sh", "-c", extracting)), tmp_path)
    try:
        pod = node.attachment()
        seen = counted(node, pod, "ADD", "noexec")
        assert seen.outcome.exit_code == 126, seen
        seen = counted(node, pod, "ADD", "exec")
        assert seen.outcome.exit_code == 0 and seen.processes > 1 and seen.left == ["ovs"], seen
        pod.delete().silent()
        (node.temporary / "ovs").unlink()
        node.assert_nothing_left()
    finally:
        node.clean()
