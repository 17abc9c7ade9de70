"""Root of the command line: mounting of the groups; every failure is one line and exit code 2."""

from __future__ import annotations

import errno
import os
import warnings
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spherecv import __version__
from spherecv.cli import (
    align,
    calibrate,
    classify,
    convert,
    demo,
    doctor,
    embed,
    evaluate,
    faces,
    find,
    gallery,
    lists,
    models,
    serve,
    train,
    verify,
    watch,
)
from spherecv.errors import SphereCVError
from spherecv.runtime.ending import terminated_as_interrupted

FAILED = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# What typer itself raises and handles: exits and wrong usage.
_NEEDS = {"train": ("array_api_compat", "train"), "serve": ("fastapi", "server")}
"""Commands that do nothing without an extra: the package that it brings, and its name."""
_NOT_OURS = (typer.Exit, typer.Abort, typer.BadParameter.__mro__[1])


def _broken_package() -> str:
    """Why a package that every command needs does not work, with the cure; nothing where all do."""
    from spherecv.runtime.devices import import_cv2, import_onnxruntime

    try:
        import_cv2()
        import_onnxruntime()
    except SphereCVError as error:
        return str(error)
    return ""


class _Root(TyperGroup):
    """Exit codes are part of the interface: `verify` answers 0 or 1, so a failure must never be a 1."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands that can be used, and for the others the line that installs what they need."""
        rows = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))}
        missing = {name: extra for name, (package, extra) in _NEEDS.items() if find_spec(package) is None}
        with formatter.section("Commands"):
            ready = [(name, one.get_short_help_str(90)) for name, one in rows.items() if name not in missing]
            formatter.write_dl(ready)
        if missing:
            with formatter.section("Not installed"):
                formatter.write_dl([(name, f"pip install 'spherecv[{extra}]'") for name, extra in missing.items()])

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminated_as_interrupted():
                return super().invoke(ctx)
        except SphereCVError as error:
            _complain("error", error)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
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


def _complain(kind: str, message: object) -> None:
    text = " ".join(str(message).split()) or type(message).__name__
    typer.echo(f"{kind}: {text}", err=True)


app.command("verify")(verify.verify)
app.command("detect")(faces.detect)
app.command("classify")(classify.classify)
app.command("align")(align.align)
app.command("embed")(embed.embed)
app.add_typer(evaluate.app, name="evaluate")
app.command("calibrate")(calibrate.calibrate)
app.add_typer(gallery.app, name="gallery")
app.command("find")(find.find)
app.command("watch")(watch.watch)
train.app.command("list")(lists.write_list)
train.app.command("unpack")(lists.unpack)
app.add_typer(train.app, name="train")
app.command("serve")(serve.serve)
app.command("convert")(convert.convert)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
