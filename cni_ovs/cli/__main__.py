"""`python -m cni_ovs.cli`, what pip installs as `cni-ovs`, and what PyInstaller freezes under that name."""

from __future__ import annotations

from cni_ovs.cli.app import app


def main() -> None:
    """Carry out the command line, and end the process with its exit code."""
    app(prog_name="cni-ovs")


if __name__ == "__main__":
    main()
