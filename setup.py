"""What setup.cfg cannot say: where `spherecv.models` lies, README's links for an index, sdists of the same bytes."""

import configparser
import gzip
import os
import re
import tarfile
import time
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent


def project_address() -> str:
    config = configparser.ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    return config["metadata"]["url"]


def readme_for_an_index(source: str) -> str:
    """README with absolute links: an index shows it without the files beside it."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{source}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{source}/blob/main/", text)


class ReproducibleSdist(sdist):
    """An sdist whose bytes are those of its files: names in order, no owners, times of SOURCE_DATE_EPOCH."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **_options):  # noqa: A002
        """Write `base_dir` as .tar.gz, the one format of sdists."""
        if format != "gztar":
            raise ValueError(f"an sdist is a gztar, not a {format}")
        when = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        goal = Path(f"{base_name}.tar.gz")
        goal.parent.mkdir(parents=True, exist_ok=True)

        def settled(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.uid, member.gid, member.uname, member.gname = when, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        root = Path(root_dir or ".")
        with (
            goal.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=when) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted((root / base_dir).rglob("*")):
                if path.is_file():
                    archive.add(path, str(path.relative_to(root)), filter=settled)
        return str(goal)


if __name__ == "__main__":
    address = project_address()
    setup(
        packages=[*find_packages(include=["spherecv", "spherecv.*"]), "spherecv.models"],
        package_dir={"spherecv.models": "models"},
        project_urls={
            "Source": address,
            "Documentation": f"{address}/tree/main/docs",
            "Changelog": f"{address}/blob/main/CHANGELOG.md",
            "Issues": f"{address}/issues",
        },
        long_description=readme_for_an_index(address),
        long_description_content_type="text/markdown",
        cmdclass={"sdist": ReproducibleSdist},
    )
