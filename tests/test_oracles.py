"""What the suite may not run without: see `pytest_configure` in conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CI": "true"}, "required (SPHERECV_REQUIRE, or CI), but missing: no test data at nowhere"),
        ({"SPHERECV_REQUIRE": "torch,data"}, "missing: no test data at nowhere: set SPHERECV_TEST_DATA"),
        (
            {"SPHERECV_REQUIRE": "tourch"},
            "SPHERECV_REQUIRE must name data, torch, chromium, peers, extras, but got tourch",
        ),
        ({"CI": "true", "SPHERECV_REQUIRE": ""}, ""),
        ({}, ""),
    ],
)
def test_a_required_oracle_that_is_missing_fails_the_run(variables: dict[str, str], message: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "SPHERECV_REQUIRE")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "tests/test_checks.py"],
        env={**inherited, "SPHERECV_TEST_DATA": "nowhere", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert message in done.stderr
    assert done.returncode == (4 if message else 0), done.stdout + done.stderr
