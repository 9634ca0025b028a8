"""Fixtures for the tests with runtimes."""

from tests.runtime.containerd import containerd
from tests.runtime.podman import podman

__all__ = ["containerd", "podman"]
