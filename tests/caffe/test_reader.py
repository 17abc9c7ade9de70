from __future__ import annotations

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from spherecv.caffe import read_caffemodel, read_message, read_prototxt
from spherecv.caffe.spherecv_caffe_pb2 import (
    DESCRIPTOR,
    BlobProto,
    LayerParameter,
    NetParameter,
    SolverParameter,
    SolverState,
)
from spherecv.errors import (
    CaffeModelError,
    InvalidArgumentError,
    ModelFileError,
    PrototxtError,
    SphereCVError,
    UnsupportedLayerError,
)

MODELS = [*(f"mtcnn-caffe/det{n}" for n in (1, 2, 3, 4)), "mobilefacenet-caffe/mobilefacenet"]


def test_the_schema_collides_with_no_installed_caffe():
    assert DESCRIPTOR.package == "spherecv_caffe"


def test_margin_inner_product_has_the_number_of_the_sphereface_fork():
    layer = DESCRIPTOR.message_types_by_name["LayerParameter"]
    assert layer.fields_by_name["margin_inner_product_param"].number == 147


@pytest.mark.parametrize("name", MODELS)
def test_released_models_hold_no_field_that_the_schema_lacks(name, data_dir):
    of_the_mtcnn_authors = {("LossParameter", 4), ("SoftmaxParameter", 3)}  # their own Caffe, for training only
    pending = [read_caffemodel(data_dir / f"{name}.caffemodel")]
    while pending:
        current = pending.pop()
        unknown = {(type(current).__name__, field.field_number) for field in UnknownFieldSet(current)}
        assert unknown <= of_the_mtcnn_authors
        for field, value in current.ListFields():
            if field.message_type is not None:
                pending.extend([value] if hasattr(value, "ListFields") else value)


def test_a_path_a_string_and_bytes_are_the_same(tmp_path):
    path = tmp_path / "größe net.prototxt"
    path.write_bytes(b"name: 'x'")
    assert read_prototxt(path) == read_prototxt(str(path)) == read_prototxt(b"name: 'x'") == NetParameter(name="x")


def test_the_official_solver(data_dir):
    solver = read_message(data_dir / "sphereface-prototxt" / "sphereface_solver.prototxt", SolverParameter)
    assert list(solver.stepvalue) == [16000, 24000, 28000]
    assert (solver.lr_policy, solver.max_iter, solver.type) == ("multistep", 28000, "SGD")


def test_solver_state_is_binary():
    state = SolverState(iter=7, history=[BlobProto(data=[1])])
    assert read_message(state.SerializeToString(), SolverState) == state
    with pytest.raises(CaffeModelError, match="truncated or damaged"):
        read_message(b"\x0a\x05abc", SolverState)


@pytest.mark.parametrize("read", [read_prototxt, read_caffemodel])
def test_files_that_cannot_be_read(read, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        read(tmp_path / "none")
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(ModelFileError, match=r"cannot read|no such file"):
            read(path)
    with pytest.raises(ModelFileError):
        read("nul\0byte")
    with pytest.raises(InvalidArgumentError, match="path or bytes"):
        read(None)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no layers"),
        (b"\x0a\x03net", "no layers"),
        (b"\xa2\x06\xff\xff\xff\xff\x0f\x0a\x01a", "claims 4,294,967,295 bytes where 3 are left"),  # 4 GB in 10 bytes
        (b"\xa2\x06\x03\x0a\x05abc", "byte 3 claims|claims 5 bytes where"),
        (b"PK\x03\x04 a zip file", "not a whole caffemodel"),
        (b"\xa2\x06\x00" * 200_001, "more than 200,000 fields"),
    ],
)
def test_damaged_caffemodels(data, complaint):
    with pytest.raises(CaffeModelError, match=complaint):
        read_caffemodel(data)


def test_every_truncation_of_a_real_model_is_told(data_dir):
    whole = (data_dir / "mtcnn-caffe" / "det1.caffemodel").read_bytes()
    ends = read_caffemodel(whole)
    complete = set()
    start = len(whole) - sum(_size(layer.ByteSize()) for layer in ends.layer)
    for layer in ends.layer:
        complete.add(start)
        start += _size(layer.ByteSize())
    for length in range(0, len(whole), 997):
        if length in complete:
            continue
        with pytest.raises(CaffeModelError):
            read_caffemodel(whole[:length])


def _size(payload: int) -> int:
    """Bytes of a layer in a net: two of tag, the length, the payload."""
    return 2 + max(1, -(-payload.bit_length() // 7)) + payload


def test_swapped_files_are_recognised(data_dir):
    with pytest.raises(PrototxtError, match="swapped"):
        read_prototxt(data_dir / "mtcnn-caffe" / "det1.caffemodel")
    with pytest.raises(CaffeModelError, match="not a whole caffemodel"):
        read_caffemodel(data_dir / "mtcnn-caffe" / "det1.prototxt")


def test_an_unknown_layer_is_named_before_its_unknown_settings():
    text = b"""layer { name: "d" type: "ReLU" }
layer {
  name: "roi"
  type: "Fancy"
  fancy_param { x: 6 }
}
layer { name: "e" type: "ReLU" }"""
    with pytest.raises(UnsupportedLayerError, match=r"layer 'roi' \(Fancy, line 2\).*supported are .*BatchNorm"):
        read_prototxt(text)


def test_an_unknown_setting_of_a_known_layer_is_a_mistake():
    with pytest.raises(PrototxtError, match=r":2:16: .*negativ_slope"):
        read_prototxt(b'layer { type: "ReLU" name: "r"\n  relu_param { negativ_slope: 1 } }')


def test_unknown_fields_say_whose_they_are():
    with pytest.raises(PrototxtError, match=r":1:47: .*no field 'resize_param': SSD's Caffe .* has it"):
        read_prototxt(b'layer { type: "Convolution" transform_param { resize_param { prob: 1 height: 3 } } }')
    with pytest.raises(
        PrototxtError, match=r":1:30: .*no field 'smooth_l1_loss_param': the Caffe of Fast R-CNN"
    ):
        read_prototxt(b'layer { type: "SmoothL1Loss" smooth_l1_loss_param { sigma: 3 } }')
    with pytest.raises(PrototxtError, match=r":1:12: SolverParameter has no field 'ap_version': SSD's Caffe"):
        read_message(b'net: "x"   ap_version: "11point"', SolverParameter)


def test_precision_that_nvcaffe_computes_in_is_passed_over():
    layer = b'layer { type: "ReLU" forward_math: FLOAT backward_type: FLOAT16 }'
    net = read_prototxt(b"default_forward_type: FLOAT16 " + layer)
    assert net == NetParameter(layer=[LayerParameter(type="ReLU")])


def test_every_error_is_one_line():
    for data in (b"layer {", b"\xff\xfe", b"layer { \n\n name: 3 }", b"x" * 100):
        with pytest.raises(SphereCVError) as caught:
            read_prototxt(data)
        assert "\n" not in str(caught.value)
