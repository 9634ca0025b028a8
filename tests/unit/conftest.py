"""What the unit tests have in common: how long Hypothesis searches, and a log that no test leaves changed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cni_ovs.plugin import log

# The same examples in each run, so that a red test is always the fault of a change. HYPOTHESIS_PROFILE=search looks
# further, at random.
settings.register_profile("unit", max_examples=100, deadline=None, database=None, derandomize=True)
settings.register_profile("search", settings.get_profile("unit"), max_examples=5000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


@pytest.fixture(autouse=True, scope="module")
def _no_garbage() -> Iterator[None]:
    """No garbage of a module's tests is found in another's, whose test would be blamed for a socket in it."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _fresh_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log as a new process has it; a log file that the test opened is closed."""
    monkeypatch.setattr(log._Log, "threshold", log._Log.threshold)
    monkeypatch.setattr(log._Log, "file", None)
    yield
    if log._Log.file is not None:
        os.close(log._Log.file)
