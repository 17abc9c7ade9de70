"""PyInstaller's hook: files that are opened by their paths, and modules that are imported by their names."""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

import spherecv
import spherecv.runtime
from spherecv.cli.app import COMMANDS

datas = [
    *collect_data_files("spherecv"),
    *collect_data_files("spherecv.models"),
    *collect_data_files("mtcnn"),
    *copy_metadata("spherecv"),
    *copy_metadata("mtcnn"),
]
hiddenimports = [
    "onnxruntime",
    "spherecv.models",
    *sorted({f"spherecv.{module}" for module in spherecv._HOMES.values()}),
    *sorted({f"spherecv.runtime.{module}" for module in spherecv.runtime._HOME.values()}),
    *sorted({f"spherecv.cli.{module}" for module, _ in COMMANDS.values()}),
]
