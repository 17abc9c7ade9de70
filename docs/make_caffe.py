"""Makes the table of layers in caffe.md from the code: `python docs/make_caffe.py`; `--check` says if it is due."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from spherecv.caffe.layers import BUILT_IN, DATA, TRAINING_ONLY, LayerKind
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter

PAGE = Path(__file__).with_name("caffe.md")
START, END = "<!-- layers: made by docs/make_caffe.py -->\n", "<!-- end of layers -->\n"
DROPPED = re.compile(r"^Left out in deployment: .*\.$", re.MULTILINE)
# Where the message of settings has another name than the type.
SETTINGS = {
    "BilinearInterpolate": "bilinear_interpolate_param",
    "ConvolutionDepthwise": "convolution_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "Im2col": "convolution_param",
    "LSTM": "recurrent_param",
    "Normalize": "norm_param",
    "PriorBoxClustered": "prior_box_param",
    "RNN": "recurrent_param",
}


def settings_of(name: str) -> str:
    """Return the message of a type's settings with its fields, or a dash."""
    fields = LayerParameter.DESCRIPTOR.fields_by_name
    plain = {field.removesuffix("_param").replace("_", ""): field for field in fields if field.endswith("_param")}
    message = SETTINGS.get(name, plain.get(name.lower(), ""))
    names = [field.name for field in fields[message].message_type.fields] if message in fields else []
    return f"`{message}`: {', '.join(names)}" if names else "-"


def place_of(kind: LayerKind) -> str:
    """Return where a layer runs."""
    if kind.is_constant:
        return "before"
    return "after" if type(kind).step is not LayerKind.step else "net"


def table() -> str:
    """Return the rows of all types."""
    rows = ["| type | what | runs | settings | checked against |", "| --- | --- | --- | --- | --- |"]
    for name, kind in sorted(BUILT_IN.items()):
        what = (inspect.getdoc(type(kind)) or "").split("\n")[0].rstrip(".").replace("|", "\\|")
        rows.append(f"| {name} | {what} | {place_of(kind)} | {settings_of(name)} | {kind.checked} |")
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """Return the page with the table of today."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    dropped = ", ".join(sorted({*DATA, *TRAINING_ONLY} - set(BUILT_IN)))
    return DROPPED.sub(f"Left out in deployment: {dropped}.", f"{before}{START}{table()}{END}{after}")


def main() -> int:
    """Write the page, or check it."""
    text = PAGE.read_text(encoding="utf8")
    due = page(text) != text
    if due and "--check" not in sys.argv:
        PAGE.write_text(page(text), encoding="utf8")
    return int(due and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
