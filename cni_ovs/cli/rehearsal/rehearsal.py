"""Rehearsing ADD: its own code runs in a process of its own, where nothing that it does can reach the machine.

Two empty network namespaces without names play host and container, all files are read-only there, and Open vSwitch is
behind a go-between that gives every change up. What the code sends is recorded. All of it goes with the process.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import time
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from cni_ovs.plugin import add, devices, ethtool, log, netns, protocol
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.config import NetworkConfig
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.devices import VHOST_USER, vhost_user
from cni_ovs.plugin.errors import IO_FAILURE, KERNEL_REFUSED, CniError
from cni_ovs.plugin.netlink import KernelError, Netlink
from cni_ovs.plugin.ovsdb import select as select_rows
from cni_ovs.plugin.vswitch import DATABASE

from .. import children
from ..failure import Failure
from . import isolation, placeholder
from .gobetween import GoBetween, Pretended, Server, Upstream
from .recorder import Recorder
from .standin import Bridge, Vswitchd

_SECONDS = 10.0  # for whatever has to answer; nothing is waited for that takes longer
_SPARE_SECONDS = 5.0
_USERSPACE_ONLY = ("tap", *VHOST_USER)


@dataclass(frozen=True)
class Request:
    """An ADD that is to be rehearsed.

    Attributes:
        values: the network configuration.
        container_id, ifname, netns, cni_args: CNI_CONTAINERID and so on; `netns` need not exist.
        pretended: datapath type of a bridge that is pretended to be there, "" for the one that fits; None to ask the
            real Open vSwitch.
    """

    values: dict[str, Any]
    container_id: str
    ifname: str
    netns: str
    cni_args: str = ""
    pretended: str | None = None


def rehearse(request: Request) -> dict[str, Any]:
    """What ADD does, in the order in which it does it.

    Returns:
        `records`, the list of what was sent and logged (see Recorder); `result` of ADD or None; `error`, None or an
        object with code, msg and details; `ipam`, what IPAM is and whether its answer is known; and more (see _Stage).

    Raises:
        Failure: it cannot be rehearsed here.
    """
    if os.geteuid() != 0:
        raise Failure("explain rehearses ADD in network namespaces of its own, which needs root", "run it as root")
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _play(request, writing, parent)
    os.close(writing)
    try:
        report = json.loads(_read(reading))
    except ValueError as error:
        raise Failure(f"the rehearsal did not end within {_SECONDS + _SPARE_SECONDS:g} s, or died") from error
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if "failure" in report:
        raise Failure(*report["failure"])
    assert isinstance(report, dict)
    return report


def _read(fd: int) -> bytes:
    """Everything that comes from the child, as long as it may take."""
    found, end = b"", time.monotonic() + _SECONDS + _SPARE_SECONDS
    while select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
        data = os.read(fd, 1 << 16)
        if not data:
            break
        found += data
    return found


def _play(request: Request, writing: int, parent: int) -> NoReturn:
    """What the child does."""
    try:
        data = json.dumps(_report(request, parent)).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)  # whatever happens, nothing of the command's may run in the child


def _report(request: Request, parent: int) -> dict[str, Any]:
    try:
        children.end_with(parent)
        return _Stage(request).play()
    except Failure as failure:
        return {"failure": [failure.message, failure.remedy]}
    except OSError as error:
        return {"failure": [f"ADD cannot be rehearsed here: {error.strerror or error}", _NEEDS]}
    except Exception as error:  # noqa: BLE001 - it has to be told
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"unexpected error: {type(error).__name__}: {error}"
        return {"failure": [what, f"report it: {place.filename}:{place.lineno} in {place.name}"]}


_NEEDS = "it needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and Linux 5.12 or newer"


class _Stage:
    """The rehearsal in the child.

    Its report has besides what `rehearse` says:
        names: of `network`, `bridge` and `port`; missing if the configuration is refused.
        suspects: how many ports ADD would look at besides, because their containers may be gone.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._folder = f"/tmp/cni-ovs-{secrets.token_hex(4)}"  # not on the machine's file system: see `protect`
        self._deadline = Deadline(_SECONDS)
        self._recorder = Recorder()
        # What has another name in the rehearsal, and its own one.
        self._names = {f"{self._folder}/netns": request.netns}
        self._report: dict[str, Any] = {"records": self._recorder.records, "result": None, "error": None, "suspects": 0}

    def play(self) -> dict[str, Any]:
        """Rehearse; returns the report."""
        log.configure("error", "/dev/null")  # so that no `log_file` is opened
        log.observer = self._recorder.log
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        try:
            self._rehearse()
        except CniError as error:
            self._report["error"] = {"code": error.code, "msg": error.msg, "details": error.details}
        log.observer = None
        report = _renamed(self._report, self._names)
        assert isinstance(report, dict)
        return report

    def _rehearse(self) -> None:
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": self._request.container_id,
            "CNI_NETNS": self._request.netns,
            "CNI_IFNAME": self._request.ifname,
            "CNI_ARGS": self._request.cni_args,
        }
        invocation = protocol.Invocation(environment)
        protocol.check_environment(invocation)
        invocation.netns = f"{self._folder}/netns"
        config = protocol.read(invocation, json.dumps(self._request.values).encode())
        if config.device_id is not None:
            what = f"an ADD with 'deviceID' ({config.device_id}) cannot be rehearsed"
            raise Failure(what, "it moves the device itself, of which there is one")
        attachment = attachments.of(invocation, config)
        self._report["names"] = {"network": config.name, "bridge": config.bridge, "port": attachment.port_name}
        self._refuse_what_is_there(attachment)
        given, known = placeholder.addresses(config, invocation.version)
        self._report["ipam"] = {"type": config.ipam_type, "known": known}
        upstream = self._upstream(config)
        folder = self._vhost_folder(config, upstream)
        namespaces = isolation.Namespaces()
        isolation.protect(self._folder, folder)
        os.symlink(f"/proc/self/fd/{namespaces.container}", f"{self._folder}/netns")
        self._recorder.namespaces = namespaces.names
        self._redirect(config)
        between = GoBetween(
            f"{self._folder}/db.sock", upstream, Vswitchd(config.ofport_request), self._recorder.transaction
        )
        if config.checks_spoofing:
            Bridge(f"{self._folder}/{config.bridge}.mgmt", lambda message: self._recorder.flow(config.bridge, message))
        self._recorder.settle = between.settle
        Netlink.observer = self._recorder.netlink
        netns.sysctl_observer = self._recorder.sysctl
        ethtool.observer = self._recorder.ethtool
        try:
            self._report["result"] = add.run(invocation, config, Deadline(config.timeout), given)
        except CniError as error:
            raise between.failure or error from None
        except OSError as error:  # as protocol.handle tells it
            code = KERNEL_REFUSED if isinstance(error, KernelError) else IO_FAILURE
            raise CniError(code, f"the system refused something: {error}") from None
        finally:
            between.settle()
            self._report["suspects"] = len(between.suspects - {self._report["names"]["port"]})
        if config.vhost_user is not None and config.vhost_user.device_info_file is not None:
            with open(config.vhost_user.device_info_file) as file:
                self._recorder.file(config.vhost_user.device_info_file, file.read())

    def _refuse_what_is_there(self, attachment: attachments.Attachment) -> None:
        """Look into the real namespace, if there is one, for what the rehearsal's has not: the interface itself.

        Raises:
            CniError: as ADD does, when it is there, or it is no namespace.
        """
        if os.path.lexists(self._request.netns):
            sandbox = netns.Namespace(self._request.netns)
            is_there = sandbox.netlink.link(attachment.ifname) is not None
            sandbox.close()
            if is_there:
                refused = devices.taken(attachment)
                raise CniError(refused.code, refused.msg, "the steps can be seen with another --ifname")

    def _upstream(self, config: NetworkConfig) -> Upstream:
        if self._request.pretended is None:
            return Server(config.socket_file, self._deadline)
        fitting = "netdev" if config.interface_type in _USERSPACE_ONLY else "system"
        return Pretended(config.bridge, self._request.pretended or fitting)

    def _vhost_folder(self, config: NetworkConfig, upstream: Upstream) -> str | None:
        """The folder of vhost-user sockets, if the port is of that kind and it is there."""
        if config.vhost_user is None:
            return None
        if not config.vhost_user.folder:
            question = select_rows("Open_vSwitch", [], ["external_ids", "other_config"])
            rows = upstream.call("transact", [DATABASE, question])[0]["rows"]
            if rows:
                config.vhost_user.folder = vhost_user.folder_of_open_vswitch(rows[0], config.socket_file)
        return config.vhost_user.folder if os.path.isdir(config.vhost_user.folder) else None

    def _redirect(self, config: NetworkConfig) -> None:
        """Let the configuration lead to the go-between, and nothing lead out of the rehearsal."""
        self._names[f"unix:{self._folder}/db.sock"] = config.socket_file
        beside = config.socket_file.removeprefix("unix:").rpartition("/")[0]
        self._names[f"{self._folder}/{config.bridge}.mgmt"] = f"{beside}/{config.bridge}.mgmt"
        config.socket_file = f"unix:{self._folder}/db.sock"
        config.ipam_type = None
        if config.vhost_user is not None and config.vhost_user.device_info_file is not None:
            self._names[f"{self._folder}/device-info"] = config.vhost_user.device_info_file
            config.vhost_user.device_info_file = f"{self._folder}/device-info"


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A value of JSON with other names in its texts."""
    if isinstance(value, dict):
        return {_renamed(key, names): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str):
        for here, there in names.items():
            value = value.replace(here, there)
        return value.encode(errors="backslashreplace").decode()  # what is no text cannot be printed
    return value
