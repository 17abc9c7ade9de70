from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import DeviceError, InvalidArgumentError
from spherecv.runtime import Session, processor

pytestmark = pytest.mark.runtime
needs_bfloat16 = pytest.mark.skipif(
    not (find_spec("openvino") and processor.computes_bfloat16()), reason="OpenVINO or the processor lacks bfloat16"
)


@needs_bfloat16
def test_bfloat16_is_near_float32_and_not_the_same(models, noise) -> None:
    data = noise(4, 3, 28, 24)
    exact = Session(models["dense"], backend="openvino")
    short = Session(models["dense"], backend="auto", precision="bfloat16")
    assert (exact.precision, short.precision, short.backend) == ("float32", "bfloat16", "openvino")
    wanted, got = exact.run(data)["fc5"], short.run(data)["fc5"]
    off = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    assert 1e-4 < off < 3e-2


@pytest.mark.parametrize("backend", ["opencv", "onnxruntime"])
def test_a_backend_that_lacks_it_is_an_error(models, backend: str) -> None:
    with pytest.raises(DeviceError, match=f"backend '{backend}' on device 'cpu' does not compute in bfloat16"):
        Session(models["dense"], backend=backend, precision="bfloat16")


def test_a_device_that_lacks_it_is_an_error(models) -> None:
    with pytest.raises(DeviceError, match="only OpenVINO on the CPU"):
        Session(models["dense"], backend="auto", device="cuda", precision="bfloat16")


def test_a_processor_that_lacks_it_is_an_error(models, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    with pytest.raises(DeviceError, match="neither AMX nor AVX-512 BF16"):
        Session(models["dense"], backend="openvino", precision="bfloat16")


@pytest.mark.parametrize(
    ("variable", "value", "there"),
    [("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", False), ("DNNL_MAX_CPU_ISA", "avx2", False),
     ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True), ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
     ("ONEDNN_MAX_CPU_ISA", "", True)],
)  # fmt: skip
def test_limited_instructions_count(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, there: bool
) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, "features", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setenv(variable, value)
    assert processor.computes_bfloat16() is there


def test_instruction_sets_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: A\nflags\t\t: sse avx512_bf16\n\nprocessor\t: 1\nflags\t\t: sse\n")
    monkeypatch.setattr(processor, "_CPUINFO", told)
    processor.features.cache_clear()
    assert processor.features() == {"sse", "avx512_bf16"}
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    processor.features.cache_clear()
    assert processor.features()  # NumPy's
    processor.features.cache_clear()


def test_a_model_that_is_not_quantised_is_no_int8(models) -> None:
    with pytest.raises(InvalidArgumentError, match="is not quantised: make a file that is with `spherecv convert"):
        Session(models["dense"], precision="int8")


def test_auto_of_a_bare_file_is_float32(models) -> None:
    assert Session(models["dense"], precision="auto").precision == "float32"


def test_an_unknown_precision(models) -> None:
    with pytest.raises(InvalidArgumentError, match="precision must be one of float32, bfloat16, int8, auto"):
        Session(models["dense"], precision="float16")
