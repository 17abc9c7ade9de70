"""The command line as a user calls it, and what a failure must look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spherecv.cli.app import app


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Calls `spherecv` with these words."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def failure() -> Callable[[Result], str]:
    """The one line of a failure, checked to be one."""

    def line_of(result: Result) -> str:
        assert result.exit_code == 2, result.output
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, result.stderr
        assert "Traceback" not in result.output
        assert "internal error" not in result.output
        return errors[0]

    return line_of


@pytest.fixture(scope="session")
def photos(data_dir: Path) -> Path:
    return data_dir / "deepface-pairs"


@pytest.fixture(scope="session")
def model(mobilefacenet: tuple[Path, Path]) -> tuple[object, ...]:
    """The options that name a small embedder."""
    prototxt, caffemodel = mobilefacenet
    return ("--prototxt", prototxt, "--caffemodel", caffemodel, "--recipe", "mobilefacenet")
