"""The ONNX of a model, kept on disk under the hashes of its two files."""

from __future__ import annotations

CONVERTER_VERSION = "1"
