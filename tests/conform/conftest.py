"""The reference pod and pictures of it, as the tests of the northbound room have them.

With ``PODKEEPER_PEERS=required`` a test that would skip for want of a peer or a contract fails instead: a run that is
to prove conformance must not pass by leaving out what it can't do.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.northbound.conftest import picture, plan

__all__ = ["picture", "plan"]
REQUIRED = os.environ.get("PODKEEPER_PEERS") == "required"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where peers are required."""
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"required, but: {report.longrepr}"
    return report
