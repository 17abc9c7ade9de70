from __future__ import annotations

import pytest

from spherecv.caffe import NetBuilder, load, read_prototxt
from spherecv.caffe.builder import constant, gaussian, msra, xavier
from spherecv.caffe.text import render
from spherecv.errors import InvalidArgumentError

EXPECTED = b"""
name: "student"
input: "data"
input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" param { lr_mult: 1 decay_mult: 1 }
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "n1" type: "BatchNorm" bottom: "c1" top: "c1" batch_norm_param { eps: 0.001 }
  param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }
layer { name: "s1" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" relu_param { negative_slope: 0.125 } }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 8 kernel_size: 1 group: 8
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 0.5 } } }
layer { name: "p2" type: "PReLU" bottom: "c2" top: "c2" prelu_param { channel_shared: true } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "c2" top: "sum" eltwise_param { operation: SUM } }
layer { name: "max" type: "Pooling" bottom: "sum" top: "max" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "ave" type: "Pooling" bottom: "sum" top: "ave"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "all" type: "Pooling" bottom: "ave" top: "all" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "all" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.25 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_every_method_writes_what_one_would_write_by_hand():
    net = (
        NetBuilder("student")
        .input("data", (1, 3, 16, 16))
        .conv("c1", 8, 3, stride=2, pad=1, bias=False, weight_filler=msra(), multipliers=[(1, 1)])
        .batch_norm("n1", eps=0.001)
        .scale("s1")
        .relu("r1", negative_slope=0.125)
        .conv("c2", 8, 1, group=8, weight_filler=gaussian(0.01), bias_filler=constant(0.5))
        .prelu("p2", shared=True)
        .eltwise_sum("sum", "c1", "c2")
        .max_pool("max", 3, 2)
        .average_pool("ave", 3, 2, pad=1, bottom="sum")
        .global_average_pool("all")
        .inner_product("fc", 4, weight_filler=xavier())
        .dropout("drop", 0.25)
        .softmax("prob")
        .build()
    )
    assert net == read_prototxt(EXPECTED)
    assert load(render(net).encode()).outputs == ("max", "prob")


def test_what_is_built_is_a_copy():
    builder = NetBuilder("n").input("data", (1, 3, 8, 8))
    first = builder.build()
    builder.relu("r")
    assert len(first.layer) == 0
    assert builder.last == "data"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: NetBuilder("n").conv("c", 1, 1), "no blob yet"),
        (lambda: NetBuilder("n").input("x", (1, 2)), r"shape must be \(N, C, H, W\), but got \(1, 2\)"),
        (
            lambda: NetBuilder("n").input("x", (1, 1, 1, 1)).margin_inner_product("m", 2, margin=5),
            "margin must be 1, 2, 3 or 4, but got 5",
        ),
    ],
)
def test_mistakes(make, complaint):
    with pytest.raises(InvalidArgumentError, match=complaint):
        make()
