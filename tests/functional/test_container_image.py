"""The Dockerfile: it fits the repository and the DaemonSet; and, on demand, the image is built and run for real.

CNI_OVS_TEST_IMAGE=1 asks for the real build: it takes minutes, a gigabyte of the temporary folder, buildah,
debootstrap, and a Debian archive and package index that can be reached. No image registry is needed: debootstrap makes
the base image, with the archive and the package index that this machine is configured for.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from cni_ovs import __version__
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import REPOSITORY, Target
from tests.support.processes import run

DOCKERFILE = REPOSITORY / "Dockerfile"
SUITE = "bookworm"
DESTINATION = "/host/opt/cni/bin"
# What of pip's configuration says where packages are and how they are reached.
PIP_KEYS = ("cert", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """Its words, without `--option`s; the exec form's JSON list as it is."""
        if self.value.startswith("["):
            words = json.loads(self.value)
            assert isinstance(words, list)
            return words
        return [word for word in shlex.split(self.value) if not word.startswith("--")]


def instructions() -> list[Instruction]:
    """The Dockerfile, instruction by instruction."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def sent(path: str) -> bool:
    """True when .dockerignore lets a path of the repository into the build; the last pattern that matches decides."""
    result = True
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        pattern = pattern.lstrip("!")
        parts = [path, *(str(parent) for parent in Path(path).parents)]
        if any(fnmatch(part, pattern) for part in parts[:-1]):
            result = keeps
    return result


def test_every_instruction_is_one_that_exists() -> None:
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "LABEL", "ENTRYPOINT", "CMD"}
    assert {instruction.name for instruction in instructions()} <= known


def test_what_is_copied_exists_and_is_sent_to_the_build() -> None:
    copied = [
        source
        for instruction in instructions()
        if instruction.name == "COPY" and "--from=" not in instruction.value
        for source in instruction.words[:-1]
    ]
    assert copied
    for source in copied:
        assert (REPOSITORY / source).exists(), source
        assert source == "." or sent(source), source


@pytest.mark.parametrize(
    "path",
    [
        *("build/binary", "build/cni-ovs-install", "build/pyinstaller", "build/requirements.lock"),
        *("build/frozen/interpreter.c", "cni_ovs/plugin/main.py", "LICENSE"),
    ],
)
def test_what_the_build_needs_is_sent_to_it(path: str) -> None:
    assert (REPOSITORY / path).exists()
    assert sent(path)


@pytest.mark.parametrize(
    "path", [".venv/bin/python", ".tools/bin/cnitool", ".git/HEAD", "dist/ovs", "tests/conftest.py"]
)
def test_what_was_made_locally_and_the_tests_stay_out_of_the_build(path: str) -> None:
    assert not sent(path)


def test_the_last_stage_starts_from_nothing_and_holds_only_what_the_first_one_collected() -> None:
    froms = [index for index, instruction in enumerate(instructions()) if instruction.name == "FROM"]
    last = instructions()[froms[-1] :]
    assert last[0].words == ["scratch"]
    assert [instruction.name for instruction in last if instruction.name in ("RUN", "ADD")] == []
    assert all("--from=builder" in instruction.value for instruction in last if instruction.name == "COPY")


def test_no_registry_is_named() -> None:
    images = [instruction.words[0] for instruction in instructions() if instruction.name == "FROM"]
    images += [i.value.partition("=")[2] for i in instructions() if i.name == "ARG" and i.value.startswith("BASE=")]
    assert [image for image in images if "." in image.partition("/")[0]] == []


def test_the_image_does_by_default_what_the_daemonset_asks_of_it() -> None:
    by_name = {instruction.name: instruction for instruction in instructions()}
    daemonset = yaml.safe_load((REPOSITORY / "conf/kubernetes/daemonset.yaml").read_text())
    (install,) = daemonset["spec"]["template"]["spec"]["initContainers"]
    assert install["command"] == [*by_name["ENTRYPOINT"].words, *by_name["CMD"].words]
    assert [mount["mountPath"] for mount in install["volumeMounts"]] == [DESTINATION]


class Image:
    """The image, built from the Dockerfile by buildah with all its storage in one folder."""

    NAME = "localhost/cni-ovs-test"
    BASE = "localhost/cni-ovs-test-base"

    def __init__(self, folder: Path) -> None:
        """Builds nothing yet."""
        self._folder = folder
        # Else buildah makes /etc/cni/net.d for networks that it does not need here.
        settings = folder / "containers.conf"
        settings.write_text(f'[network]\nnetwork_config_dir = "{folder}/net.d"\n')
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings), "TMPDIR": str(folder)}

    def buildah(self, *words: str | Path, timeout: float = 60) -> str:
        """Runs buildah to its end; what it printed."""
        storage = ("--root", self._folder / "root", "--runroot", self._folder / "run", "--storage-driver", "vfs")
        return run(["buildah", *storage, *words], env=self._environment, timeout=timeout).stdout.strip()

    def make_base(self) -> None:
        """Makes the base image: a minimal Debian with this machine's archive and package index."""
        root = self._folder / "debian"
        run(["debootstrap", "--variant=minbase", SUITE, root, debian_archive()], timeout=600)
        settings = pip_settings()
        if "cert" in settings:
            shutil.copy(settings["cert"], root / "etc/pip-ca.crt")
            settings["cert"] = "/etc/pip-ca.crt"
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
        archive = self._folder / "debian.tar"
        run(["tar", "-C", root, "--exclude=./dev/*", "-cf", archive, "."], timeout=120)
        shutil.rmtree(root)
        container = self.buildah("from", "scratch")
        self.buildah("add", container, archive, "/", timeout=120)
        self.buildah("commit", "--rm", container, self.BASE, timeout=120)
        archive.unlink()

    def build(self) -> None:
        """Builds the Dockerfile on the base image."""
        options = ("--isolation", "chroot", "--pull-never", "--build-arg", f"BASE={self.BASE}", "--tag", self.NAME)
        self.buildah("bud", *options, "--file", DOCKERFILE, REPOSITORY, timeout=900)

    @property
    def command(self) -> list[str]:
        """What a container of it runs by default."""
        config = json.loads(self.buildah("inspect", "--type", "image", self.NAME))["OCIv1"]["config"]
        return [*config["Entrypoint"], *config["Cmd"]]

    def run(self, destination: Path, *command: str) -> None:
        """Runs a command in a new container, with a folder of ours as the node's plugin folder."""
        destination.mkdir(exist_ok=True)
        container = self.buildah("from", "--pull-never", self.NAME)
        try:
            volume = f"{destination}:{DESTINATION}"
            self.buildah("run", "--isolation", "chroot", "--volume", volume, container, "--", *command)
        finally:
            self.buildah("rm", container)


def debian_archive() -> str:
    """The address of the Debian archive that apt is configured for."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", f"Codename: {SUITE}"]
    found = run([*words, "Label: Debian", "Component: main"]).stdout.split()
    if not found:
        pytest.skip(f"apt on this machine has no archive of Debian {SUITE} (or `apt-get update` was never run)")
    return found[0]


def pip_settings() -> dict[str, str]:
    """The part of this machine's pip configuration that says where packages come from."""
    lines = run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout.splitlines()
    matches = [re.fullmatch(r"(?:global|:env:)\.([a-z-]+)=(.+)", line) for line in lines]
    values = {match[1]: str(ast.literal_eval(match[2])) for match in matches if match}
    return {key: values[key] for key in PIP_KEYS if key in values}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image, built once."""
    if os.environ.get("CNI_OVS_TEST_IMAGE", "") in ("", "0"):
        pytest.skip("building the image takes minutes: ask for it with CNI_OVS_TEST_IMAGE=1")
    missing = [program for program in ("buildah", "debootstrap") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="cniovs-image-", ignore_cleanup_errors=True) as folder:
        made = Image(Path(folder))
        made.make_base()
        made.build()
        yield made


@pytest.mark.timeout(1800)
def test_the_built_image_installs_a_plugin_that_attaches_containers(
    image: Image, openvswitch: PrivateOpenVSwitch, tmp_path: Path
) -> None:
    destination = tmp_path / "cni-bin"
    for _ in range(2):  # The second time, as after a reboot of the node, it is there already.
        image.run(destination, *image.command)
        assert re.fullmatch(rf"\.ovs-{re.escape(__version__)}-[0-9a-f]{{16}}/ovs", os.readlink(destination / "ovs"))
        assert len(list(destination.iterdir())) == 2

    node = Node(openvswitch, Target("image", (str(destination / "ovs"),)), tmp_path)
    try:
        attachment = node.attached(vlan=5, ipam=node.host_local(), cniVersion="1.0.0")
        attachment.check().silent()
        attachment.delete().silent()
        node.assert_nothing_left()
    finally:
        node.clean()


@pytest.mark.timeout(1800)
def test_the_built_image_is_small(image: Image) -> None:
    (entry,) = json.loads(image.buildah("images", "--json", image.NAME))
    number, unit = str(entry["size"]).split()
    assert unit in ("KB", "MB")
    assert unit == "KB" or float(number) < 60
