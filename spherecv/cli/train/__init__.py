"""`spherecv train`: train, fine-tune, distil and export nets."""

from __future__ import annotations

import typer

from spherecv.cli import lists
from spherecv.cli.train import distill, export, finetune, run, show

app = typer.Typer(no_args_is_help=True, help="Train nets, with Caffe's own files.")
app.command("list")(lists.write_list)
app.command("unpack")(lists.unpack)
app.command("show")(show.show)
app.command("run")(run.run)
app.command("finetune")(finetune.finetune)
app.command("distill")(distill.distill)
app.command("export")(export.export)
