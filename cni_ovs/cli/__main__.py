"""`python -m cni_ovs.cli`, what pip installs as `cni-ovs`, and what PyInstaller freezes under that name."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Carry out the command line, and end the process with its exit code."""
    # Ctrl-C ends the process without a word until there may be something to undo. Most of the start is this import.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cni_ovs.cli.process import run  # noqa: PLC0415 - see above

    sys.exit(run())


if __name__ == "__main__":
    main()
