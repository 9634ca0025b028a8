"""`cni-ovs doctor`: faults of configurations, of the installed plugin and of the temporary folder, made for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import PrivateMounts
from tests.support import installer
from tests.support.doctor import Doctor
from tests.support.plugin import TARGETS
from tests.support.processes import run

pytestmark = pytest.mark.one_target

FROZEN = TARGETS["frozen"].command[0]


@pytest.fixture
def mounts() -> Iterator[PrivateMounts]:
    made = PrivateMounts("/etc", "/usr/lib/cni")
    yield made
    made.close()


# Configurations


def test_a_file_that_is_no_json_is_told_with_the_place(doctor: Doctor) -> None:
    path = doctor.write("20-broken.conflist", '{"cniVersion": "1.0.0",\n "name": }')
    finding = doctor.finds("configuration_unusable", code=4)
    assert str(path) in finding["message"] and "line 2" in finding["message"]


def test_what_is_no_regular_file_or_no_configuration_is_told_and_waited_for_by_nobody(doctor: Doctor) -> None:
    path = doctor.configurations / "20-odd.conf"
    os.mkfifo(path)
    assert "no regular file" in doctor.finds("configuration_unusable", code=4)["message"]
    path.unlink()
    for text in ("[" * 100_000, "[]", '{"plugins": 7}', '{"plugins": [7]}', "\xff\xfe", ""):
        path.write_bytes(text.encode("latin-1"))
        doctor.finds("configuration_unusable", code=4)
    path.write_text(json.dumps({"name": "\ud800\x9b", "type": "ovs", "bridge": 7, "ipam": [], "vlan": "\x1b[2J"}))
    finding = doctor.finds("configuration_refused", code=4)
    assert finding["message"].isprintable()


def test_a_wrong_value_and_a_mistyped_key_are_told(doctor: Doctor) -> None:
    path = doctor.configure("20-wrong.conflist", network="wrong", vlan=9999)
    finding = doctor.finds("configuration_refused", code=4)
    assert str(path) in finding["message"] and "9999" in finding["message"]
    doctor.configure("20-wrong.conflist", network="wrong", vlna=7)
    finding = doctor.finds("key_ignored", code=3)
    assert "'vlna'" in finding["message"] and "'vlan'" in finding["message"]
    path.unlink()
    doctor.is_silent()


def test_a_configuration_that_opens_a_log_file_is_read_without_opening_it(doctor: Doctor, tmp_path: Path) -> None:
    doctor.configure("20-log.conflist", network="log", log_file=str(tmp_path / "log"), log_level="debug")
    doctor.is_silent()
    assert not (tmp_path / "log").exists()


def test_two_files_of_one_network_are_told(doctor: Doctor) -> None:
    path = doctor.configure("20-copy.conflist")
    finding = doctor.finds("network_twice", code=3)
    assert "10-net.conflist" in finding["message"] and "20-copy.conflist" in finding["message"]
    path.unlink()
    path = doctor.configure("20-copy.conf")
    doctor.finds("conf_beside_conflist", code=3)
    path.unlink()
    doctor.is_silent()


def test_a_file_that_containerd_does_not_use_is_a_note(doctor: Doctor, mounts: PrivateMounts) -> None:
    configuration = mounts.path("/etc/containerd/config.toml")
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text("version = 2\n")
    doctor.configure("20-other.conflist", network="other")
    finding = doctor.among(mounts).finds("configuration_shadowed", code=0)
    assert "10-net.conflist, and not" in finding["message"]
    for text in (
        'disabled_plugins = ["cri"]',
        '[plugins."io.containerd.grpc.v1.cri".cni]\nmax_conf_num = 0',
        "no toml",
    ):
        configuration.write_text(f"{text}\n")
        doctor.is_silent()
    configuration.write_text("version = 2\n")
    doctor.write("00-multus.conf", '{"cniVersion": "0.3.1", "name": "multus", "type": "multus"}')
    doctor.is_silent()


def test_an_ipam_plugin_that_is_not_there_is_told(doctor: Doctor) -> None:
    (doctor.plugins / "host-local").unlink()
    finding = doctor.finds("plugin_not_there", code=4)
    assert "host-local" in finding["message"] and str(doctor.plugins) in finding["message"]


# The plugin


def test_a_plugin_that_is_not_there_is_told(doctor: Doctor) -> None:
    (doctor.plugins / "ovs").unlink()
    finding = doctor.finds("plugin_missing", code=4)
    assert str(doctor.plugins) in finding["message"]
    assert finding["command"] == f"./cni-ovs-install {doctor.plugins}"


def test_a_plugin_that_is_not_where_containerd_looks_is_told(doctor: Doctor, mounts: PrivateMounts) -> None:
    """Without --bin-dir: the folders are the machine's."""
    folder = mounts.path("/etc/cni/bin")
    folder.mkdir()
    configuration = mounts.path("/etc/containerd/config.toml")
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text('[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/etc/cni/bin"\n')
    shutil.copy2(FROZEN, mounts.path("/usr/lib/cni/ovs"))
    doctor.among(mounts)
    words = ["doctor", "--conf-dir", str(doctor.configurations)]
    done = doctor.cli.run(*words, check=False)
    assert done.returncode == 3 and "containerd looks for plugins in /etc/cni/bin, and ovs is not there" in done.stdout
    assert "./cni-ovs-install /etc/cni/bin\n" in done.stdout
    shutil.copy2(FROZEN, folder / "ovs")
    done = doctor.cli.run(*words, check=False)
    assert done.returncode == 0 and done.stdout.startswith("healthy: ")


def test_a_plugin_that_is_not_executable_is_found_and_mended(doctor: Doctor) -> None:
    (doctor.plugins / "ovs").chmod(0o644)
    doctor.type_in(doctor.finds("plugin_not_executable", code=4))
    doctor.is_silent()


def test_an_installed_plugin_is_healthy_and_a_link_that_leads_nowhere_or_a_changed_file_is_found(
    doctor: Doctor, tmp_path: Path
) -> None:
    source = installer.image(tmp_path / "image")
    version = doctor.plugins / installer.install(source, doctor.plugins)
    doctor.is_silent()
    with (version / "ovs").open("ab") as program:
        program.write(b"\n")
    doctor.finds("plugin_damaged", code=3)
    shutil.rmtree(version)
    finding = doctor.finds("plugin_link_broken", code=4)
    run(["sh", "-ec", f"cd {source}; {finding['command']}"])
    doctor.is_silent()


def test_different_versions_are_told(doctor: Doctor, tmp_path: Path) -> None:
    source = installer.image(tmp_path / "image", stand_in=True)
    words = ["--bin-dir", str(source)]
    finding = doctor.finds("plugin_versions", *words, code=3)
    assert f"1.2.3 in {source}" in finding["message"]


def test_a_plugin_of_the_same_name_that_is_another_is_told(doctor: Doctor) -> None:
    plugin = doctor.plugins / "ovs"
    plugin.write_text("""#!/bin/sh\n[ -z "$CNI_COMMAND" ] || echo '{"supportedVersions": ["1.0.0"]}'\n""")
    doctor.finds("plugin_of_others", code=3)


def test_a_plugin_that_needs_a_newer_c_library_is_told(doctor: Doctor, tmp_path: Path) -> None:
    """It is linked with a library that calls itself libc.so.6 and has a version that no real one has."""
    (tmp_path / "stub.c").write_text("int from_the_future(void) { return 0; }\n")
    (tmp_path / "stub.map").write_text("GLIBC_2.99 { from_the_future; };\n")
    (tmp_path / "main.c").write_text("int from_the_future(void); void _start(void) { from_the_future(); }\n")
    stub = ["gcc", "-shared", "-nostdlib", "-Wl,-soname,libc.so.6", f"-Wl,--version-script={tmp_path}/stub.map"]
    run([*stub, "-o", tmp_path / "libstub.so", tmp_path / "stub.c"])
    run(["gcc", "-nostdlib", "-o", tmp_path / "ovs", tmp_path / "main.c", tmp_path / "libstub.so"])
    shutil.copy2(tmp_path / "ovs", doctor.plugins / "ovs")
    finding = doctor.finds("plugin_glibc", code=4)
    assert "needs GLIBC_2.99" in finding["message"]


def test_a_plugin_for_another_kind_of_machine_is_told(doctor: Doctor) -> None:
    with (doctor.plugins / "ovs").open("r+b") as program:
        program.seek(18)
        program.write(b"\xf7\x00")  # EM_BPF, which no kernel executes
    finding = doctor.finds("plugin_foreign_machine", code=4)
    assert os.uname().machine in finding["message"]


def test_a_plugin_that_does_not_start_is_told_with_its_own_words(doctor: Doctor) -> None:
    (doctor.plugins / "ovs").write_text("#!/bin/sh\necho 'no disk today' >&2\nexit 3\n")
    assert "no disk today" in doctor.finds("plugin_does_not_start", code=4)["message"]
    (doctor.plugins / "ovs").write_text("#!/bin/sh\nexec sleep 20\n")
    start = time.monotonic()
    assert "does not answer within" in doctor.finds("plugin_does_not_start", code=4)["message"]
    assert time.monotonic() - start < 8


def test_a_plugin_on_a_file_system_without_execution_is_told(doctor: Doctor, mounts: PrivateMounts) -> None:
    command = ["sh", "-ec", 'mount -t tmpfs -o noexec tmpfs "$1" && cp "$2" "$1/ovs" && ln -s "$3" "$1/host-local"']
    host_local = os.readlink(doctor.plugins / "host-local")
    run(mounts.command(*command, "sh", doctor.plugins, FROZEN, host_local))
    doctor.among(mounts).finds("plugin_noexec", code=4)


# The temporary folder


def test_a_temporary_folder_without_execution_is_a_note(doctor: Doctor, mounts: PrivateMounts) -> None:
    run(mounts.command("mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", doctor.temporary))
    finding = doctor.among(mounts).finds("temporary_noexec", code=0)
    assert str(doctor.temporary) in finding["message"] and "TMPDIR=" in finding["remedy"]


def test_a_temporary_folder_that_is_full_is_told(doctor: Doctor, mounts: PrivateMounts) -> None:
    run(mounts.command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", doctor.temporary))
    finding = doctor.among(mounts).finds("temporary_full", code=3)
    assert "has 1 MB left" in finding["message"]


def test_what_a_killed_one_file_program_has_left_is_found_and_removed(doctor: Doctor) -> None:
    stale, used = (doctor.temporary / name for name in ("_MEIstale", "_MEIused"))
    for folder in (stale, used):
        folder.mkdir()
        shutil.copy2("/bin/sleep", folder / "program")
    doctor.is_silent()  # they are young: the program may be starting
    process = subprocess.Popen([used / "program", "60"])
    try:
        for folder in (stale, used):
            os.utime(folder, (1, 1))
        finding = doctor.finds("unpacked_stale", code=3)
        assert finding["command"] == f"rm -r {stale}"
        doctor.type_in(finding)
        doctor.is_silent()
        assert used.exists()
    finally:
        process.kill()
        process.wait()
