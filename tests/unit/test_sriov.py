"""Finding a VF, its PF, its representor and its uplink in sysfs, with the layouts of several drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_ovs.plugin import sriov
from cni_ovs.plugin.devices import vf_release
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.netlink import Link
from tests.support.sysfs import PF, VF, Sysfs

SWITCH, OTHER_SWITCH = "e8ebd3030035f8f2", "a088c20300ec8a1c"
OTHER_PF, OTHER_VF = "0000:03:00.1", "0000:03:01.5"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "sys")


def nic(sysfs: Sysfs, *, uplink: str | None = "p0", representor: str = "pf0vf3", driver: str = "mlx5_core") -> None:
    """One PF with a VF, in switchdev mode."""
    sysfs.physical(driver=driver)
    sysfs.virtual(driver=driver, name="enp3s0f0v3")
    sysfs.interface("uplink", PF, port=uplink, switch=SWITCH)
    sysfs.interface("rep", PF, port=representor, switch=SWITCH)


def find(sysfs: Sysfs, address: str = VF) -> sriov.Function:
    return sriov.Function(address, str(sysfs.root))


def refused(sysfs: Sysfs, address: str = VF) -> CniError:
    with pytest.raises(CniError) as caught:
        find(sysfs, address)
    assert caught.value.code == 7
    assert "'deviceID'" in caught.value.msg and address in caught.value.msg
    return caught.value


@pytest.mark.parametrize(
    ("driver", "uplink", "representor"),
    [
        ("mlx5_core", "p0", "pf0vf3"),  # since Linux 5.2
        ("mlx5_core", "p0", "vf3"),
        ("mlx5_core", "p0", "3"),  # Linux 4.x
        ("mlx5_core", None, "3"),  # before the uplink had a name
        ("mlx5_core", "p0s1", "pf0vf3"),  # a port that is split
        ("mlx5_core", "p0", "c1pf0vf3"),  # on the processor of a NIC that has one
        ("nfp", "p0", "pf0vf3"),
        ("ice", "p0", "pf0vf3"),
        ("bnxt_en", "p0", "pf3vf3"),  # counts its PFs in another way
    ],
)
def test_a_representor_is_found_as_this_driver_names_it(
    sysfs: Sysfs, driver: str, uplink: str | None, representor: str
) -> None:
    nic(sysfs, driver=driver, uplink=uplink, representor=representor)
    found = find(sysfs)
    assert (found.address, found.physical, found.index) == (VF, PF, 3)
    assert (found.uplink, found.representor, found.interface()) == ("uplink", "rep", "enp3s0f0v3")


def test_representors_of_other_vfs_and_other_ports_are_told_apart(sysfs: Sysfs) -> None:
    nic(sysfs)
    others = [
        "pf0vf0",
        "pf0vf30",
        "pf0vf33",
        "pf0sf3",
        "pf0",
        "p1",
        "p3",
        "pf1vf3",
        "c1pf0vf3",
        "xpf0vf3",
        "pf0vf3x",
        "",
    ]
    for number, port in enumerate(others):
        sysfs.interface(f"a{number}", PF, port=port, switch=SWITCH)
    sysfs.interface("other", None, port="pf0vf3", switch=OTHER_SWITCH)
    sysfs.interface("none", None, port="pf0vf3")
    sysfs.interface("veth0")
    assert find(sysfs).representor == "rep"


@pytest.mark.parametrize("with_parent", [True, False])
def test_two_pfs_that_share_one_switch_have_vfs_of_the_same_number(sysfs: Sysfs, with_parent: bool) -> None:
    """A multiport eswitch."""
    for number, (pf, vf) in enumerate(((PF, VF), (OTHER_PF, OTHER_VF))):
        sysfs.physical(pf)
        sysfs.virtual(vf, of=pf, name=f"vf{number}")
        sysfs.interface(f"up{number}", pf, port=f"p{number}", switch=SWITCH)
        sysfs.interface(f"rep{number}", pf if with_parent else None, port=f"pf{number}vf3", switch=SWITCH)
    assert [find(sysfs, vf).representor for vf in (VF, OTHER_VF)] == ["rep0", "rep1"]
    assert [find(sysfs, vf).uplink for vf in (VF, OTHER_VF)] == ["up0", "up1"]


def test_the_representor_of_another_pf_in_the_same_switch_is_not_taken_for_a_missing_one(sysfs: Sysfs) -> None:
    for with_parent in (OTHER_PF, None):
        sysfs = Sysfs(sysfs.root / f"{with_parent}")
        for number, (pf, vf) in enumerate(((PF, VF), (OTHER_PF, OTHER_VF))):
            sysfs.physical(pf)
            sysfs.virtual(vf, of=pf)
            sysfs.interface(f"up{number}", pf, port=f"p{number}", switch=SWITCH)
        sysfs.interface("rep1", with_parent, port="pf1vf3", switch=SWITCH)
        assert "no representor" in refused(sysfs).msg


def test_two_nics_have_switches_of_their_own(sysfs: Sysfs) -> None:
    nic(sysfs)
    sysfs.physical("0000:81:00.0")
    sysfs.virtual("0000:81:00.5", of="0000:81:00.0")
    sysfs.interface("up81", "0000:81:00.0", port="p0", switch=OTHER_SWITCH)
    sysfs.interface("rep81", None, port="pf0vf3", switch=OTHER_SWITCH)
    assert (find(sysfs).representor, find(sysfs, "0000:81:00.5").representor) == ("rep", "rep81")


def test_two_representors_of_one_vf_are_not_chosen_from(sysfs: Sysfs) -> None:
    nic(sysfs)
    sysfs.interface("rep2", PF, port="pf0vf3", switch=SWITCH)
    assert "rep, rep2" in refused(sysfs).msg


def test_a_device_that_is_not_there_or_no_vf_is_refused(sysfs: Sysfs) -> None:
    nic(sysfs)
    sysfs.pci("0000:00:01.0")
    assert "no such PCI device" in refused(sysfs, "0000:07:00.5").msg
    assert "not a virtual function" in refused(sysfs, "0000:00:01.0").msg
    assert "a physical function" in refused(sysfs, PF).msg


@pytest.mark.parametrize("switch", [None, ""])
def test_legacy_mode_is_refused_with_what_to_do(sysfs: Sysfs, switch: str | None) -> None:
    sysfs.physical()
    sysfs.virtual(name="vf")
    sysfs.interface("uplink", PF, port="p0", switch=switch)
    error = refused(sysfs)
    assert "not in switchdev mode" in error.msg
    assert error.details == f"devlink dev eswitch set pci/{PF} mode switchdev"


def test_a_vf_that_has_no_representor_here_is_refused(sysfs: Sysfs) -> None:
    nic(sysfs, representor="pf0vf2")
    assert "VF 3 of 0000:03:00.0 has no representor" in refused(sysfs).msg


@pytest.mark.parametrize("driver", ["vfio-pci", "uio_pci_generic", "igb_uio"])
def test_a_vf_that_a_program_is_to_drive_has_no_interface(sysfs: Sysfs, driver: str) -> None:
    sysfs.physical()
    sysfs.virtual(driver=driver)
    sysfs.interface("uplink", PF, port="p0", switch=SWITCH)
    sysfs.interface("rep", PF, port="pf0vf3", switch=SWITCH)
    found = find(sysfs)
    assert (found.representor, found.interface()) == ("rep", None)


@pytest.mark.parametrize(("driver", "said"), [("mlx5_core", "a container has"), (None, "it has no driver")])
def test_a_vf_whose_interface_is_elsewhere_means_try_again(sysfs: Sysfs, driver: str | None, said: str) -> None:
    sysfs.physical()
    folder = sysfs.virtual(driver=driver)
    (folder / "net").mkdir()
    sysfs.interface("uplink", PF, port="p0", switch=SWITCH)
    sysfs.interface("rep", PF, port="pf0vf3", switch=SWITCH)
    with pytest.raises(CniError) as caught:
        find(sysfs).interface()
    assert caught.value.code == 11 and said in caught.value.details


def test_a_device_with_two_interfaces_is_refused(sysfs: Sysfs) -> None:
    nic(sysfs)
    sysfs.interface("second", VF)
    with pytest.raises(CniError, match="enp3s0f0v3, second"):
        find(sysfs).interface()


def test_the_bridge_may_have_the_uplink_its_bond_or_another_member_of_that(sysfs: Sysfs) -> None:
    nic(sysfs)
    assert find(sysfs).uplinks() == ["uplink"]
    sysfs.interface("p1")
    sysfs.bond("bond0", "p1", "uplink")
    assert find(sysfs).uplinks() == ["bond0", "uplink", "p1"]


def test_a_master_that_is_no_bond_is_passed_over(sysfs: Sysfs) -> None:
    nic(sysfs)
    sysfs.interface("ovs-system")
    (sysfs.root / "class/net/uplink/master").symlink_to("../../../../virtual/net/ovs-system")
    assert find(sysfs).uplinks() == ["uplink"]


@pytest.mark.parametrize(
    ("parent", "kind", "recorded_kind", "same"),
    [
        (VF, "", "", True),
        (OTHER_VF, "", "", False),  # another VF
        ("", "", "", True),  # before Linux 5.14
        ("", "veth", "", False),  # which a container can make
        ("", "dummy", "", False),
    ],
)
def test_an_interface_is_known_by_its_parent_and_by_being_hardware(
    parent: str, kind: str, recorded_kind: str, same: bool
) -> None:
    link = Link(7, "net1", bytes(6), 1500, 0, kind, parent)
    assert vf_release.is_it(link, VF, recorded_kind) is same


def test_what_is_not_there_is_no_error_where_it_is_only_looked_for(sysfs: Sysfs) -> None:
    assert sriov.interfaces(VF, str(sysfs.root)) == []
    assert not sriov.exists(VF, str(sysfs.root))
    nic(sysfs)
    assert sriov.interfaces(VF, str(sysfs.root)) == ["enp3s0f0v3"]
    assert sriov.exists(VF, str(sysfs.root))
