"""The CNI protocol: what an invocation must bring, which command runs, and how an error is told.

Source: the CNI specification 1.1.0 and, where it is silent, the order and the texts of the Go library that every
other plugin is built with (containernetworking/cni, pkg/skel). docs/conformance.md lists the points.
"""

from __future__ import annotations

from . import config as network_config
from . import jsontext, log
from .errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    KERNEL_REFUSED,
    UNEXPECTED,
    CniError,
)
from .forms import ifname_problem, is_identifier, is_utf8
from .netlink import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .config import NetworkConfig
    from .deadline import Deadline

SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST_VERSION = SUPPORTED_VERSIONS[-1]

# Command: the variables it needs besides CNI_COMMAND, and the first version that has it.
_COMMANDS = {
    "ADD": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), "0.1.0"),
    "CHECK": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), "0.4.0"),
    "DEL": (("CNI_CONTAINERID", "CNI_IFNAME"), "0.1.0"),
    "GC": (("CNI_PATH",), "1.1.0"),
    "STATUS": ((), "1.1.0"),
    "VERSION": ((), "0.1.0"),
}


class Invocation:
    """What a runtime told us in the environment, checked.

    Attributes:
        command, container_id, netns, ifname, args, path: CNI_COMMAND, CNI_CONTAINERID, … ; "" where absent.
        override: CNI_NETNS_OVERRIDE is set: the plugin's own namespace is meant.
        version: `cniVersion` of the configuration.
        environment: all of it, for an IPAM plugin.
    """

    __slots__ = ("args", "command", "container_id", "environment", "ifname", "netns", "override", "path", "version")

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.command = environment.get("CNI_COMMAND", "")
        self.container_id = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.ifname = environment.get("CNI_IFNAME", "")
        self.args = environment.get("CNI_ARGS", "")
        self.path = environment.get("CNI_PATH", "")
        self.override = environment.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true")
        self.version = LATEST_VERSION


def handle(environment: Mapping[str, str], read_config: Callable[[], bytes], deadline: Deadline) -> tuple[int, str]:
    """Carry out one invocation.

    Args:
        environment: of the process; CNI_COMMAND is set.
        read_config: returns what is on stdin, or raises CniError; called only by commands that need it.
        deadline: for everything; the configuration's `timeout` is applied to it.

    Returns:
        The exit code, and the text for stdout.
    """
    invocation = Invocation(environment)
    try:
        result = _dispatch(invocation, read_config, deadline)
        return 0, "" if result is None else jsontext.encode(result) + "\n"
    except CniError as error:
        return 1, _error_text(invocation, error)
    except KernelError as error:
        return 1, _error_text(invocation, CniError(KERNEL_REFUSED, f"the kernel refused something: {error.strerror}"))
    except (OSError, ImportError) as error:
        # No bug: the system is short of something (file descriptors, memory, disk), and imports feel it first.
        return 1, _error_text(invocation, CniError(IO_FAILURE, f"the system refused something: {error}"))
    except Exception as error:  # noqa: BLE001 - a bug must still be told in the form that runtimes understand
        message = f"unexpected error: {type(error).__name__}: {error}"
        return 1, _error_text(invocation, CniError(UNEXPECTED, message, _trace(error)))


def _dispatch(invocation: Invocation, read_config: Callable[[], bytes], deadline: Deadline) -> dict[str, Any] | None:
    """The result of a command; None for one that prints nothing."""
    if invocation.command == "VERSION":
        return {"cniVersion": LATEST_VERSION, "supportedVersions": list(SUPPORTED_VERSIONS)}
    check_environment(invocation)
    config = read(invocation, read_config())
    deadline.limit(config.timeout)
    # DEL removes the port all the same; ipam.py tells it then.
    if config.ipam_type is not None and not invocation.path and invocation.command != "DEL":
        raise missing_variables(["CNI_PATH"])
    return _run(invocation, config, deadline)


def read(invocation: Invocation, raw: bytes) -> NetworkConfig:
    """The network configuration of an invocation, checked; its version becomes that of the invocation.

    Raises:
        CniError: DECODING_FAILURE, INCOMPATIBLE_VERSION, INVALID_CONFIG.
    """
    values = _decode(raw)
    _check_name(values)
    _check_version(invocation, values)
    lenient = invocation.command in ("DEL", "GC")
    return network_config.parse(values, raw, invocation.args, lenient=lenient)


def _run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> dict[str, Any] | None:
    # Each imports only what it needs: start-up is most of what a runtime waits for.
    if config.type in network_config.MIRROR_TYPES:
        from . import mirrors  # noqa: PLC0415

        return mirrors.run(invocation, config, deadline)
    if invocation.command == "ADD":
        from . import add  # noqa: PLC0415

        return add.run(invocation, config, deadline)
    if invocation.command == "DEL":
        from . import delete  # noqa: PLC0415

        delete.run(invocation, config, deadline)
    elif invocation.command == "CHECK":
        from . import check  # noqa: PLC0415

        check.run(invocation, config, deadline)
    elif invocation.command == "GC":
        from . import gc  # noqa: PLC0415

        gc.run(invocation, config, deadline)
    else:
        from . import status  # noqa: PLC0415

        status.run(invocation, config, deadline)
    return None


def _trace(error: Exception) -> str:
    """Where an error comes from, the innermost place last. The `traceback` module would need twenty others."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    if len(places) > 12:  # a recursion
        places[4:-8] = [f"{len(places) - 12} more"]
    cause = error.__cause__ or error.__context__
    return ", ".join(places) + (f"; because of {type(cause).__name__}: {cause}" if cause else "")


def missing_variables(names: list[str]) -> CniError:
    """The error for variables that are not there, in the very text that clients know from the Go library."""
    return CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(names)}] missing")


def check_environment(invocation: Invocation) -> None:
    """Raise CniError INVALID_ENVIRONMENT unless everything is there that the command needs, in its form."""
    command = _COMMANDS.get(invocation.command)
    if command is None:
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {invocation.command}")
    missing = [name for name in command[0] if not invocation.environment.get(name)]
    if missing:
        raise missing_variables(missing)
    if "CNI_CONTAINERID" in command[0] and not is_identifier(invocation.container_id):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"invalid CNI_CONTAINERID: {invocation.container_id!r}",
            "it must begin with a letter or digit, and go on with letters, digits, '_', '.' and '-'",
        )
    if "CNI_IFNAME" in command[0]:
        problem = ifname_problem(invocation.ifname)
        if problem:
            raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_IFNAME: {invocation.ifname!r}", problem)
    if not is_utf8(invocation.netns):
        raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_NETNS: {invocation.netns!r}", "it is not UTF-8")
    if not is_utf8(invocation.args):
        raise CniError(INVALID_ENVIRONMENT, f"invalid CNI_ARGS: {invocation.args!r}", "it is not UTF-8")


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        values = jsontext.decode(raw)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"the network configuration is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise CniError(DECODING_FAILURE, f"the network configuration must be an object: {jsontext.shown(values)}")
    return values


def _check_name(values: dict[str, Any]) -> None:
    name = network_config.lookup(values, "name")
    if name is None or name == "":
        raise CniError(INVALID_CONFIG, "missing network name: 'name' must be set in the network configuration")
    if not isinstance(name, str) or not is_identifier(name):
        raise CniError(
            INVALID_CONFIG,
            f"invalid network name: {jsontext.shown(name)}",
            "'name' must begin with a letter or digit, and go on with letters, digits, '_', '.' and '-'",
        )


def _check_version(invocation: Invocation, values: dict[str, Any]) -> None:
    version = network_config.lookup(values, "cniVersion")
    if version is None or version == "":
        version = "0.1.0"  # the first version had no such key
    if not isinstance(version, str):
        raise CniError(DECODING_FAILURE, f"'cniVersion' must be a string: {jsontext.shown(version)}")
    if version not in SUPPORTED_VERSIONS:
        raise CniError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {jsontext.shown(version)}, plugin supports {list(SUPPORTED_VERSIONS)}",
        )
    invocation.version = version
    since = _COMMANDS[invocation.command][1]
    if SUPPORTED_VERSIONS.index(version) < SUPPORTED_VERSIONS.index(since):
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"incompatible CNI versions: {invocation.command} needs cniVersion {since} or newer",
            f"config is {version!r}, plugin supports {list(SUPPORTED_VERSIONS)}",
        )


def _error_text(invocation: Invocation, error: CniError) -> str:
    log.error(f"{invocation.command}: {error.msg}" + (f": {error.details}" if error.details else ""))
    answer = {"cniVersion": invocation.version, "code": error.code, "msg": error.msg}
    if error.details:
        answer["details"] = error.details
    return jsontext.encode(answer) + "\n"
