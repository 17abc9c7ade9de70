from __future__ import annotations

import pytest

from spherecv.caffe import load


def test_a_table_of_known_numbers():
    net = load(
        b'name: "small" input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 6 }'
        b'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        b"convolution_param { num_output: 4 kernel_size: 3 group: 1 } }"
        b'layer { name: "p" type: "PReLU" bottom: "c" top: "c" }'
        b'layer { name: "d" type: "Deconvolution" bottom: "c" top: "d" '
        b"convolution_param { num_output: 4 kernel_size: 2 stride: 2 group: 4 bias_term: false } }"
        b'layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 10 } }'
    )
    table = net.summary()
    assert [(row.name, row.output, row.parameters, row.macs) for row in table.rows] == [
        ("c", (1, 4, 6, 4), 4 * 27 + 4, 6 * 4 * 4 * 27),
        ("p", (1, 4, 6, 4), 4, 0),
        ("d", (1, 4, 12, 8), 4 * 4, 6 * 4 * 4 * 4),
        ("f", (1, 10), 3840 + 10, 3840),
    ]
    assert table.parameters == 112 + 4 + 16 + 3850
    assert str(table).splitlines()[0] == "small"
    assert "1x4x12x8" in str(table)
    assert str(table).splitlines()[-1].split() == ["total", f"{table.parameters:,}", f"{table.macs:,}"]


@pytest.mark.parametrize("name", ["mtcnn-caffe/det3", "mobilefacenet-caffe/mobilefacenet"])
def test_parameters_are_those_of_the_released_weights(name, data_dir):
    net = load(data_dir / f"{name}.prototxt", data_dir / f"{name}.caffemodel")
    assert net.summary().parameters == sum(blob.size for layer in net.layers for blob in layer.blobs)


def test_sphereface_20_has_the_size_of_the_released_file(data_dir):
    """The released caffemodel has 90,688,218 bytes, four for each number and a little for names and settings."""
    table = load(data_dir / "sphereface-prototxt" / "sphereface_deploy.prototxt").summary()
    assert 0 < 90_688_218 - 4 * table.parameters < 20_000
