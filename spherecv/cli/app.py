"""Root of the command line: mounting of the groups; every failure is one line and exit code 2."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from spherecv import __version__
from spherecv.errors import SphereCVError
from spherecv.runtime.ending import INTERRUPTED, terminated_as_interrupted

FAILED = 2
BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
COMMANDS = {
    "verify": ("verify", "Tell whether two images show the same person."),
    "detect": ("faces", "Find faces: boxes, landmarks, scores, quality."),
    "classify": ("classify", "Classify faces with a Caffe net: the probability of every label."),
    "align": ("align", "Align a data set as the SphereFace authors did."),
    "embed": ("embed", "Embed faces into one .npz: embeddings, paths, boxes, scores, qualities; no pickle in it."),
    "evaluate": ("evaluate", "Measure a model: the protocols of the literature, or pairs of your own."),
    "calibrate": ("calibrate", "Measure thresholds and a probability on pairs of your own."),
    "gallery": ("gallery", "Keep known people in one file, or on a Milvus server; ask who is on an image."),
    "find": ("find", "Find images of the person on PHOTO in FOLDER, the nearest first."),
    "watch": ("watch", "Track the people in a video and say who they are."),
    "train": ("train", "Train nets, with Caffe's own files."),
    "serve": ("serve", "Serve verification, detection, embeddings and a gallery over HTTP."),
    "convert": ("convert", "Convert a Caffe model to ONNX without Caffe; the numbers stay Caffe's."),
    "models": ("models", "Models by name: those that SphereCV knows, and your own."),
    "doctor": ("doctor", "Check this machine: OpenCV, backends, devices, models, caches."),
    "demo": ("demo", "Detect, align and verify, and draw every step into a folder."),
}
"""Every command: the module that holds it, and what `spherecv --help` says of it. Only the one that runs is imported:
together they take as long as a small net takes to open."""
_NEEDS = {"train": ("array_api_compat", "train"), "serve": ("fastapi", "server")}
"""Commands that do nothing without an extra: the package that it brings, and its name."""
_NOT_OURS = (typer.Exit, typer.Abort)
"""What typer itself raises and handles."""
_RULES = {
    "must be a whole number": r"valid int",
    "must be a number": r"valid (?:float|number)",
    "must be in the range {}": r"not in the range (\S+?)\.?$",
    "must be {}": r"should be (.+?)\.?$",
}
"""Our words for what is wrong with a value, by patterns of typer's."""
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong usage: of its families typer names only the one of values."""


def _broken_package() -> str:
    """Why a package that every command needs does not work, with the cure; nothing where all do."""
    from spherecv.runtime.devices import import_cv2, import_onnxruntime

    try:
        import_cv2()
        import_onnxruntime()
    except SphereCVError as error:
        return str(error)
    return ""


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module, _ = COMMANDS[name]
        found = import_module(f"spherecv.cli.{module}")
        part = typer.Typer(add_completion=False, rich_markup_mode=None)
        if isinstance(group := getattr(found, "app", None), typer.Typer):
            part.add_typer(group, name=name)
        else:
            part.command(name)(getattr(found, name))
        command = typer.main.get_group(part).commands[name]
        _take_as_declared(command)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _take_as_declared(command: Any) -> None:
    """Let a command and those below it take what was not given, and text where text is wanted, as it is.

    From 0.29 on typer coerces every value by pydantic, which takes longer to import and to prepare than the default
    model to open. setup.cfg asks for an earlier one; an environment may hold a later one for another program.
    """
    command.get_params = partial(_declared, command.get_params)
    command.format_help_text = partial(_with_whole_examples, command, command.format_help_text)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.get_usage_pieces = partial(_plain_pieces, parameter.get_usage_pieces)
    for one in getattr(command, "commands", {}).values():
        _take_as_declared(one)


def _with_whole_examples(command: Any, write: Callable[[Any, Any], None], ctx: Any, formatter: Any) -> None:
    """Show each example in one line, which can be copied; the formatter would wrap it."""
    help_text = command.help
    parts = [
        "\b\n  " + " ".join(part.split()) if part.lstrip().startswith("spherecv ") else part
        for part in (help_text or "").split("\n\n")
    ]
    command.help = "\n\n".join(parts)
    try:
        write(ctx, formatter)
    finally:
        command.help = help_text


def _plain_pieces(pieces_of: Callable[[Any], list[str]], ctx: Any) -> list[str]:
    """An argument in the usage as `A`, not `{A}`."""
    return [piece.replace("{", "").replace("}", "").replace("......", "...") for piece in pieces_of(ctx)]


def _declared(parameters_of: Callable[[Any], list[Any]], ctx: Any) -> list[Any]:
    parameters = parameters_of(ctx)
    for parameter in parameters:
        if "process_value" not in vars(parameter):
            parameter.process_value = partial(_processed, parameter, parameter.process_value)
    return parameters


def _processed(parameter: Any, process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    wanted = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    missing = value is None and not parameter.required
    single = parameter.nargs == 1 and not getattr(parameter, "multiple", False)
    given = value is parameter.default is not None or (wanted is str and type(value) is str)
    if not (single and (missing or given)):
        try:
            return process(ctx, value)
        except typer.BadParameter as error:
            if value is None or _is_of_something_missing(error):
                raise
            shown = ", ".join(repr(one) for one in (value if isinstance(value, tuple | list) else (value,)))
            raise typer.BadParameter(f"{_name_of(parameter)} {_rule(error.message)}, but got {shown}", ctx) from None
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


def _rule(message: str) -> str:
    """What a value must be, in the words of our own errors; typer says it in click's, from 0.29 on in pydantic's."""
    for rule, words in _RULES.items():
        if found := re.search(words, message):
            return rule.format(*found.groups())
    return message.rstrip(".")


def _is_of_something_missing(error: Any) -> bool:
    return hasattr(error, "param_type")


def _name_of(parameter: Any) -> str:
    """What the user knows a parameter by: its long option, or what stands for the argument."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper()).strip("[].")


def _usage_text(error: Any) -> str:
    """Say in one line what is wrong with the words of a command, and where its help is."""
    if _is_of_something_missing(error):
        text = f"{_name_of(error.param)} is missing" if error.param is not None else str(error)
    elif isinstance(error, typer.BadParameter):
        text = error.message
    else:
        text = (error.message[:1].lower() + error.message[1:]).replace("(s)", "")
        near = getattr(error, "possibilities", None)
        text += f" (did you mean {' or '.join(sorted(near))}?)" if near else ""
    where = "" if error.ctx is None else f"; see {error.ctx.command_path} --help"
    return text.rstrip(".") + where


class _Root(TyperGroup):
    """Exit codes are part of the interface: `verify` answers 0 or 1, so a failure must never be a 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast("Any", _Commands())

    def get_params(self, ctx: Any) -> list[Any]:
        """The options that stand before the command."""
        return _declared(super().get_params, ctx)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """List the commands that can be used, and for the others the line that installs what they need."""
        missing = {name: extra for name, (package, extra) in _NEEDS.items() if find_spec(package) is None}
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items() if name not in missing])
        if missing:
            with formatter.section("Not installed"):
                formatter.write_dl([(name, f"pip install 'spherecv[{extra}]'") for name, extra in missing.items()])

    def make_context(self, *words: Any, **settings: Any) -> Any:
        """Take the options that stand before the command."""
        try:
            return super().make_context(*words, **settings)
        except _UsageError as error:
            raise _refused(error) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminated_as_interrupted():
                return super().invoke(ctx)
        except _UsageError as error:
            raise _refused(error) from None
        except SphereCVError as error:
            _complain("error", error)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt as interruption:
            typer.echo(": ".join(("interrupted", *map(str, interruption.args))), err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader went away, as `head` does. typer would exit with 1, which is verify's "different people".
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at its end
            raise typer.Exit(BROKEN_PIPE) from None
        except Exception as fault:
            if isinstance(fault, OSError) and fault.errno in _FULL:
                _complain("error", f"the answer cannot be written: {fault.strerror}")
                raise typer.Exit(FAILED) from None
            if "SPHERECV_DEBUG" in os.environ or isinstance(fault, _NOT_OURS):
                raise
            if isinstance(fault, AttributeError | ImportError) and (broken := _broken_package()):
                _complain("error", broken)
                raise typer.Exit(FAILED) from None
            _complain("internal error", fault)
            typer.echo("This is a fault of SphereCV. SPHERECV_DEBUG=1 shows where; please report it.", err=True)
            raise typer.Exit(FAILED) from None


app = typer.Typer(
    name="spherecv",
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Face verification with Caffe-era models (SphereFace first) on today's OpenCV.\n\n"
        "Start with `spherecv verify A.jpg B.jpg`; `spherecv demo A.jpg B.jpg` draws every step of it, and `spherecv "
        "doctor` tells what this machine has. The default model is for research only."
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spherecv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's: ours is an error
    warnings.showwarning = lambda message, *_args, **_kwargs: _complain("warning", message)


def _refused(error: Any) -> Exception:
    """Complain of wrong usage; what to raise for it. A group alone shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return cast("Exception", error)
    _complain("error", _usage_text(error))
    return typer.Exit(FAILED)


def _complain(kind: str, message: object) -> None:
    text = " ".join(str(message).split()) or type(message).__name__
    typer.echo(f"{kind}: {text}", err=True)
