"""What MkDocs does not do by itself: references from the code and the commands, links to files beside the docs."""

from __future__ import annotations

import configparser
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = "<!-- every command -->"
_NAMES = re.compile(r"<!-- public names of ([\w.]+) -->")
_LINK = re.compile(r"(!?\[[^\]]*\]\()((?:\.\./|deploy)[^)#\s]*)")


def on_config(config: Any, **_: Any) -> Any:
    """Pages that mkdocs.yml does not name stand at the end of "In depth"; the project's address is setup.cfg's."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    config["repo_url"], config["repo_name"] = setup["metadata"]["url"], "Source"
    named = repr(config["nav"])
    rest = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if f"'{path.name}'" not in named]
    (depth,) = [part["In depth"] for part in config["nav"] if "In depth" in part]
    depth.extend(rest)
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Fill in what a page leaves open; a link that leads out of `docs` goes to the file in the repository."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())

    markdown = _NAMES.sub(lambda found: "\n\n".join(f"::: {path}" for path in _of_page(found[1])), markdown)

    def outside(found: re.Match[str]) -> str:
        target = (ROOT / "docs" / Path(page.file.src_uri).parent / found[2]).resolve()
        if not target.exists():
            raise ValueError(f"{page.file.src_uri} links to {found[2]}, which does not exist")
        if target.is_relative_to(ROOT / "docs") and target.suffix in (".md", ".png", ".jpg", ".svg"):
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{found[1]}{config['repo_url']}/{kind}/main/{target.relative_to(ROOT)}"

    return _LINK.sub(outside, markdown)


def public_names(module: str) -> list[str]:
    """Where the public functions and classes of a module are defined: those in its `__all__`, or without underscore."""
    found = _package()[module.removeprefix("spherecv").lstrip(".")] if module != "spherecv" else _package()
    paths = []
    for name in sorted(found.exports or [name for name in found.members if not name.startswith("_")]):
        member = found.members.get(str(name))
        if member is None or (member.is_alias and not found.exports):
            continue
        target = member.final_target if member.is_alias else member
        if target.is_class or target.is_function:
            paths.append(target.path)
    return paths


def _of_page(module: str) -> list[str]:
    """Each name stands on one page: the main ones on the first, errors on theirs."""
    paths = public_names(module)
    if module == "spherecv":
        return [path for path in paths if not path.startswith("spherecv.errors.")]
    main = set(_of_page("spherecv"))
    return [path for path in paths if path not in main]


@cache
def _package() -> Any:
    import griffe

    return griffe.load("spherecv", search_paths=[ROOT], resolve_aliases=True, resolve_external=False)


def commands() -> str:
    """Every command with its arguments and options, in Markdown."""
    import typer

    from spherecv.cli.app import app

    sections: list[str] = []
    _describe(typer.main.get_command(app), ("spherecv",), sections)
    return "\n\n".join(sections)


def _describe(command: Any, path: tuple[str, ...], sections: list[str]) -> None:
    import click

    context = click.Context(command, info_name=" ".join(path))
    children = [(name, command.get_command(context, name)) for name in getattr(command, "commands", {})]
    if len(path) > 1:
        sections.append(f"{'#' * min(len(path), 4)} {' '.join(path)}")
        sections.append(_prose(command.help or ""))
    rows = [_row(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    rows = [row for row in rows if "--help" not in row[0]]
    if len(path) > 1 and not children:
        usage = " ".join(["spherecv", *path[1:], *(piece for piece in command.collect_usage_pieces(context))])
        sections.append(f"```text\n{usage}\n```")
    if rows:
        lines = ["| | |", "| --- | --- |", *(f"| {names} | {text} |" for names, text in rows)]
        sections.append("\n".join(lines))
    for name, child in children:
        _describe(child, (*path, name), sections)


def _prose(text: str) -> str:
    """Help texts as paragraphs; examples, which are indented, as code."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = [line.strip() for line in block.splitlines()]
        if all(line.startswith("spherecv ") for line in lines):
            parts.append("```sh\n" + "\n".join(lines) + "\n```")
        else:
            parts.append(" ".join(lines).replace("<", "&lt;"))
    return "\n\n".join(parts)


def _row(parameter: Any, context: Any) -> tuple[str, str]:
    record = parameter.get_help_record(context)
    if record is None:  # an argument without a help text
        record = (parameter.make_metavar(context), getattr(parameter, "help", "") or "")
    return tuple(" ".join(part.split()).replace("|", "\\|").replace("<", "&lt;") for part in record)  # type: ignore[return-value]
