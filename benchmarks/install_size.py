"""What a base install puts on the disk: every distribution that `pip install spherecv` brings, by its size.

    python benchmarks/install_size.py

Counts the files that each installed distribution lists, the compiled modules that pip adds among them, in blocks of
4 KiB as a disk keeps them. Run it in an environment that was installed by pip, not in a checkout's: an editable
install lists no files of its own.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

BLOCK = 4096


def closure(name: str) -> set[str]:
    """Names of the distributions that one needs, itself among them, without extras."""
    found: set[str] = set()
    waiting = [(name, frozenset[str]())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        found.add(metadata.metadata(name)["Name"])
        for line in metadata.requires(name) or ():
            one = Requirement(line)
            if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                continue
            if (step := (one.name, frozenset(one.extras))) not in seen:
                seen.add(step)
                waiting.append(step)
    return found


def bytes_on_disk(name: str) -> int:
    """Whole blocks of the files that a distribution lists."""
    sizes = []
    for file in metadata.files(name) or ():
        path = Path(str(file.locate()))
        if path.is_file():
            sizes.append(path.stat().st_size)
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def main() -> None:
    sizes = {name: bytes_on_disk(name) for name in closure("spherecv")}
    print("| distribution | version | MB |\n| --- | --- | ---: |")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if size >= 500_000:
            print(f"| {name} | {metadata.version(name)} | {size / 1e6:.1f} |")
    small = [size for size in sizes.values() if size < 500_000]
    print(f"| {len(small)} smaller ones | | {sum(small) / 1e6:.1f} |")
    print(f"| **all {len(sizes)}** | | **{sum(sizes.values()) / 1e6:.0f}** |")


if __name__ == "__main__":
    main()
