"""What pip makes of the repository, and installs: the command, the plugin as a module, and the manual page."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from configparser import ConfigParser
from email.parser import HeaderParser
from pathlib import Path

import pytest

from cni_ovs import __version__
from cni_ovs.cli.app import COMMANDS
from tests.support.plugin import PATH, REPOSITORY
from tests.support.processes import run

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
OFFLINE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it, but with what is in .venv: that takes no network."""
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--no-build-isolation", *OFFLINE, "--wheel-dir", folder, REPOSITORY], timeout=100)
    [file] = folder.iterdir()
    return file


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "cni_ovs").rglob("*.py")}
    assert {name for name in names if name.startswith("cni_ovs/")} >= ours
    parts = {name.partition("/")[0] for name in names}
    assert parts == {"cni_ovs", f"cni_ovs-{__version__}.dist-info", f"cni_ovs-{__version__}.data"}
    assert [name for name in names if ".data/" in name] == [f"cni_ovs-{__version__}.data/data/share/man/man1/cni-ovs.1"]


def test_the_wheel_says_what_is_called_and_what_is_needed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entries = ConfigParser()
        entries.read_string(archive.read(f"cni_ovs-{__version__}.dist-info/entry_points.txt").decode())
        metadata = HeaderParser().parsestr(archive.read(f"cni_ovs-{__version__}.dist-info/METADATA").decode())
    assert dict(entries["console_scripts"]) == {"cni-ovs": "cni_ovs.cli.__main__:main"}
    needed = {text.partition(">")[0] for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text}
    assert needed == {"click", "ovs", "pyroute2", "pyyaml", "rich"}


def test_the_wheel_is_installed_with_a_command_that_works_and_its_manual_page(wheel: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "venv", "--without-pip", tmp_path])
    python = tmp_path / "bin/python"
    site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # those that cni-ovs needs
    run([*PIP, "--python", python, "install", *OFFLINE, wheel], timeout=60)
    command = tmp_path / "bin/cni-ovs"
    environment = {"PATH": PATH}
    assert run([command, "--version"], env=environment).stdout == f"cni-ovs, version {__version__}\n"
    listed = run([command, "--help"], env=environment).stdout  # imports them all
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    assert run([command, "frobnicate"], env=environment, check=False).returncode == 2
    assert '"supportedVersions"' in run([python, "-m", "cni_ovs.plugin"], env={"CNI_COMMAND": "VERSION"}).stdout
    assert (tmp_path / "share/man/man1/cni-ovs.1").read_bytes() == (REPOSITORY / "docs/cni-ovs.1").read_bytes()
