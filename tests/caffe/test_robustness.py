"""Whatever a file holds, load, summary and to_onnx end in a result or a SphereCVError, soon and in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.caffe.architectures import mtcnn_onet, mtcnn_pnet
from spherecv.caffe.layers import DATA, KINDS, TRAINING_ONLY
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter
from spherecv.caffe.text import render
from spherecv.errors import SphereCVError

# Ten seconds is far beyond what any example takes; a bomb would take minutes.
fuzz = settings(max_examples=150, deadline=10_000, derandomize=True)

EXTREMES = [0, 1, 2, 3, 127, 128, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -1, -2, -(2**31), -(2**63)]
PNET = render(mtcnn_pnet()).encode()
TEXTS = [
    PNET,
    render(mtcnn_onet()).encode(),
    b"""input: "x" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
    layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
    layers { name: "r" type: RELU bottom: "c" top: "c" }""",
]
TOKENS = [*(bytes([byte]) for byte in b"{}\"'<[]:#\n\0\xff"), b"layer", b"layers {", b"type", b"inf"]


def _use(prototxt: bytes, caffemodel: bytes | None = None) -> None:
    try:
        net = load(prototxt, caffemodel)
        assert str(net.summary())
        net.to_onnx()
    except SphereCVError as error:
        told = str(error)
    else:
        told = "nothing wrong"
    assert "\n" not in told
    assert len(told) < 5000


@st.composite
def mutations(draw, originals):
    """One of the originals, changed in a few places."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.integers(0, 40)))
        change = draw(st.sampled_from(["cut", "delete", "repeat", "number", "token", "bytes"]))
        if change == "cut":
            del data[place:]
        elif change == "delete":
            del data[place:end]
        elif change == "repeat":
            data[place:place] = data[place:end] * draw(st.integers(1, 5))
        elif change == "number":
            data[place:end] = str(draw(st.sampled_from(EXTREMES))).encode()
        elif change == "token":
            data[place:place] = draw(st.sampled_from(TOKENS))
        else:
            data[place:end] = draw(st.binary(max_size=12))
    return bytes(data)


@fuzz
@given(text=mutations(TEXTS))
def test_mutated_prototxts(text):
    _use(text)


@pytest.fixture(scope="module")
def pnet_weights(seeded_weights):
    return seeded_weights(load(PNET)).SerializeToString()


@fuzz
@given(data=st.data())
def test_mutated_caffemodels(data, pnet_weights):
    _use(PNET, data.draw(mutations([pnet_weights, pnet_weights[:300], pnet_weights[-300:]])))


@fuzz
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes(data):
    _use(data)
    _use(PNET, data)


def _values(field: FieldDescriptor) -> st.SearchStrategy:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return messages(field.message_type._concrete_class, depth=1)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(["", "x", "y", "l1"])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 1e38, float("inf"), float("nan")])
    low = 0 if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64) else -(2**63)
    high = 2**63 - 1
    if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_INT32):
        low, high = (0, 2**32 - 1) if low == 0 else (-(2**31), 2**31 - 1)
    sensible = st.integers(max(low, -1), 5)
    return sensible | sensible | st.sampled_from([value for value in EXTREMES if low <= value <= high])


@st.composite
def messages(draw, kind, depth=0):
    """A message with some of its fields set, to sensible or to extreme values."""
    message = kind()
    fields = [f for f in kind.DESCRIPTOR.fields if depth == 0 or f.name != "blobs"]
    if not fields:
        return message
    for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda f: f.name)):
        repeated = hasattr(getattr(message, field.name), "append")
        values = draw(st.lists(_values(field), max_size=4)) if repeated else [draw(_values(field))]
        for value in values:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                (getattr(message, field.name).add() if repeated else getattr(message, field.name)).CopyFrom(value)
            elif repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


SETTINGS = {
    "BatchNorm": "batch_norm_param",
    "BilinearInterpolate": "bilinear_interpolate_param",
    "ConvolutionDepthwise": "convolution_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "DetectionOutput": "detection_output_param",
    "DummyData": "dummy_data_param",
    "Im2col": "convolution_param",
    "InnerProduct": "inner_product_param",
    "LSTM": "recurrent_param",
    "MaxUnPool": "max_unpool_param",
    "Normalize": "norm_param",
    "PSROIPooling": "psroi_pooling_param",
    "PriorBox": "prior_box_param",
    "PriorBoxClustered": "prior_box_param",
    "RNN": "recurrent_param",
    "ROIPooling": "roi_pooling_param",
    "ShuffleChannel": "shuffle_channel_param",
}
CONVOLUTIONS = ("Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution", "Im2col")
TYPES = sorted({*KINDS, *DATA, *TRAINING_ONLY, "Input"})


@st.composite
def nets(draw):
    """Nets of a few layers of any types with any settings."""
    net = NetParameter(input=["x", "y"])
    wild = draw(st.sampled_from([False, False, True]))
    sizes = st.integers(1, 6) | st.sampled_from(EXTREMES) if wild else st.integers(1, 6)
    for _ in range(2):
        net.input_shape.add(dim=draw(st.lists(sizes, max_size=5) | st.just([2, 4, 6, 6]) | st.just([2, 4, 6, 6])))
    blobs = ["x", "y"]
    for index in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(TYPES if wild else sorted(KINDS)))
        layer = net.layer.add(name=f"l{index}", type=kind)
        bottoms, tops = (1, 3), (1, 3)
        if kind in KINDS and not wild:
            bottoms, tops = ((low, high or 3) for low, high in (KINDS[kind].bottoms, KINDS[kind].tops))
        count = draw(st.integers(*bottoms))
        layer.bottom.extend(draw(st.lists(st.sampled_from(blobs), min_size=count, max_size=count)))
        layer.top.extend(f"t{index}{place}" for place in range(draw(st.integers(*tops))))
        blobs.extend(layer.top)
        name = SETTINGS.get(kind, f"{kind.lower()}_param")
        if name in LayerParameter.DESCRIPTOR.fields_by_name:
            settings_type = LayerParameter.DESCRIPTOR.fields_by_name[name].message_type._concrete_class
            getattr(layer, name).CopyFrom(draw(messages(settings_type, depth=1)))
        if kind in (*CONVOLUTIONS, "InnerProduct", "LSTM", "RNN"):
            param = getattr(layer, name)
            param.num_output = draw(st.integers(1, 4))
            if kind in CONVOLUTIONS and not param.kernel_size:
                param.kernel_size.append(draw(st.integers(1, 3)))
    return net


@settings(max_examples=400, deadline=10_000, derandomize=True)
@given(net=nets())
def test_nets_of_any_settings(net, seeded_weights):
    text = render(net).encode()
    try:
        bare = load(text)
        small = bare.summary().parameters < 100_000
    except SphereCVError:
        small = False
    _use(text, seeded_weights(bare).SerializeToString() if small else None)


BOMBS = [
    b"""input: "x" input_shape { dim: 1 dim: 1 dim: 40000 dim: 40000 }
    layer { name: "c" type: "Convolution" bottom: "x" top: "c"
    convolution_param { num_output: 4000000000 kernel_size: 1 } }""",
    b"""input: "x" input_shape { dim: 1 dim: 20 dim: 1 dim: 1 }
    layer { name: "d" type: "Deconvolution" bottom: "x" top: "d"
    convolution_param { num_output: 1 kernel_size: 2 dilation: 40000 } }""",
    b'input: "x" input_shape { dim: 1 dim: 2000000000 } layer { name: "p" type: "PReLU" bottom: "x" top: "p" }',
    b"layer { " * 100_000,
    b'input: "x"' + b" input_dim: 1" * 50_000,
    b'input: "x" input_shape {' + b" dim: 3" * 50_000 + b"}",
    b'name: "' + b"x" * 1_000_000,
    b'input: "x" input_shape { dim: 4 } layer { name: "s" type: "Split" bottom: "x"' + b' top: "x"' * 20_000 + b"}",
]


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space, as Linux can")
def test_bombs_stay_small():
    code = (
        "import resource, sys\n"
        "from spherecv.caffe import load\n"
        "from spherecv.caffe.spherecv_caffe_pb2 import NetParameter\n"
        "import onnx\n"
        "from spherecv.errors import SphereCVError\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        f"texts = {BOMBS!r}\n"
        f"models = {[b'ab' * 5, bytes.fromhex('a206ffffffff0f0a0178'), bytes.fromhex('a20600') * 200_001]!r}\n"
        "for text, model in [*((text, None) for text in texts), *((texts[2], model) for model in models)]:\n"
        "    try:\n"
        "        load(text, model).to_onnx()\n"
        "        sys.exit('taken: ' + repr(text[:60]))\n"
        "    except SphereCVError as error:\n"
        "        assert len(str(error)) < 5000, len(str(error))\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-"], input=code, text=True, check=True, timeout=120, cwd=root)
