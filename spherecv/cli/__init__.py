"""The command line, one file for each group of commands."""

from __future__ import annotations


def main() -> None:
    """Run `spherecv`; the entry point of the package."""
    from spherecv.cli.app import app

    app()
