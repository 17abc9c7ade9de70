"""What the processor can compute, and what makes two processors compute alike."""

from __future__ import annotations

import importlib
import os
import platform
import re
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = ("flags", "Features")  # as x86 and ARM write it
_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables by which the instructions that oneDNN, and OpenVINO with it, may use are limited."""
_WITH_BFLOAT16 = re.compile(r"|ALL|DEFAULT|AVX512_CORE_(BF16|FP16|AMX.*)|AVX10_.*512.*")
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16", "bf16", "avx512bf16"))
"""As Linux spells them on x86 and on ARM, and as NumPy does."""


@cache
def features() -> frozenset[str]:
    """Names of the processor's instruction sets, as Linux or else NumPy spells them."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return _features_by_numpy()
    found = next((line.partition(":")[2] for line in lines if line.partition(":")[0].strip() in _FLAGS), "")
    return frozenset(found.split())


def cap() -> str:
    """The instruction set that oneDNN is limited to, as the environment says; empty for none."""
    return next((os.environ[name].upper() for name in _CAPS if os.environ.get(name)), "")


def computes_bfloat16() -> bool:
    """Whether the processor multiplies numbers of bfloat16 itself; OpenVINO says so too where it only emulates it."""
    return bool(_BFLOAT16 & features()) and _WITH_BFLOAT16.fullmatch(cap()) is not None


def identity() -> tuple[str, ...]:
    """What a verdict on a backend holds for: machine, instruction sets and their limit."""
    return (platform.machine(), platform.processor(), cap(), *sorted(features()))


def _features_by_numpy() -> frozenset[str]:
    try:
        known = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__  # which has no public name
    except (ImportError, AttributeError):
        return frozenset()
    return frozenset(name.lower() for name, there in known.items() if there)
