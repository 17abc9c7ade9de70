from __future__ import annotations

import math

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from spherecv.caffe import text
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, LayerParameter, NetParameter, PowerParameter, SolverParameter
from spherecv.errors import PrototxtError


def _parse(content, kind=NetParameter):
    message = kind()
    data = content if isinstance(content, bytes) else content.encode()
    outline = text.parse(text.decode(data, "net.prototxt"), message, "net.prototxt")
    assert not outline.unknown
    return message


def test_layers_are_found_by_line():
    content = '# layer { in a comment\nname: "layer {"\nlayer {\n  param { name: "x" }\n}\n\nlayer: <\n>\nlayers { }'
    outline = text.parse(content, NetParameter(), "net")
    assert outline.layer == (3, 7)
    assert outline.layers == (9,)


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ("layer {\n  convolution_param { num_output: many }\n}", 2, 35),
        ("layer {\n  name: 'open", 2, 9),
        ("layer {\n  name: 'open\n'", 2, 9),
        ("layer {", 1, 8),
        ("layer { pooling_param { pool: MEDIAN } }", 1, 31),
        ("input_dim: 99999999999", 1, 12),
        ("input_dim: -2147483649", 1, 12),
        ("layer { convolution_param { num_output: -1 } }", 1, 41),
        ("layer { convolution_param { num_output: 4294967296 } }", 1, 41),
        ("layer { relu_param { negative_slope: + 1 } }", 1, 38),
        ("layer { relu_param { negative_slope: 0x1 } }", 1, 38),
        ("layer { relu_param { negative_slope: 010 } }", 1, 38),
        ("layer { convolution_param { num_output: 08 } }", 1, 41),
        ("layer { convolution_param { num_output: 1.0 } }", 1, 41),
        ("layer { convolution_param { num_output: 3group: 1 } }", 1, 41),
        ("layer { convolution_param { bias_term: 2 } }", 1, 40),
        ("layer { convolution_param { bias_term: TRUE } }", 1, 40),
        ("name: x", 1, 7),
        ("name: 'a' 'b", 1, 11),
        ("name: '\\q'", 1, 7),
        ("name 'a'", 1, 6),
        ("name: 'a' name: 'b'", 1, 11),
        ("input_dim: [1, 2", 1, 17),
        ("input_dim: [1, ]", 1, 16),
        ("layer { relu_param { } > }", 1, 24),
        ("layer [ { } { } ]", 1, 13),
        ("name: 'a';; input: 'b'", 1, 11),
        ("größe: 1", 1, 3),
        ("3: 1", 1, 1),
    ],
)
def test_mistakes_have_line_and_column(content, line, column):
    with pytest.raises(PrototxtError) as caught:
        _parse(content)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"net.prototxt:{line}:{column}: ")
    assert "\n" not in str(caught.value)


def test_the_texts_that_only_the_parser_in_caffe_takes():
    """Each of these is refused by Python's text format of some version, or read otherwise."""
    assert _parse("scale: - 2 shift: -\ninf power: -1.5F", PowerParameter) == PowerParameter(
        scale=-2, shift=-math.inf, power=-1.5
    )
    assert math.isnan(_parse("scale: -NaN", PowerParameter).scale)
    assert _parse("scale: 1e39, shift: 99999999999999999999;", PowerParameter) == PowerParameter(
        scale=math.inf, shift=1e20
    )
    assert list(_parse("input_dim: 0x1F input_dim: 017 input_dim: - 0X10").input_dim) == [31, 15, -16]
    flags = "layer { convolution_param { bias_term: %s } }"
    assert [_parse(flags % word).layer[0].convolution_param.bias_term for word in ("t", "True", "1", "0x1")] == [
        True
    ] * 4
    assert [_parse(flags % word).layer[0].convolution_param.bias_term for word in ("f", "False", "0", "00")] == [
        False
    ] * 4
    net = _parse("layer: < name: 'a' > layer { name: 'b' }, layer [<>, {}];")
    assert [layer.name for layer in net.layer] == ["a", "b", "", ""]


def test_strings_of_any_kind():
    assert _parse(r"""name: 'a\'\x41\101\n\u00e9\U0001F600' "b" '#' """).name == "a'AA\n\xe9\U0001f600b#"
    assert _parse("name: '卷积'".encode("gbk")).name == "卷积"
    assert _parse(b"name: '\xff\xfe'").name == "\xff\xfe"
    assert _parse("# 注释 \nname: 'x' # ö".encode("gb18030")).name == "x"
    assert _parse(b"raw_data: '\\377\\000'", BlobProto).raw_data == b"\xff\x00"
    assert _parse(b"\xef\xbb\xbfname: 'x'").name == "x"


def test_unknown_fields_are_passed_over_whatever_they_hold():
    content = """layer { name: "a"
      fancy_param { deep < x: [1, 2] y: { } > z: "s" 't' w: -inf; }
      other: [ { a: 1 }, { b: FOO } ] last: 3
      type: "Fancy" }
    layer { name: "b" }"""
    message = NetParameter()
    outline = text.parse(content, message, "net")
    assert [(u.line, u.column, u.layer) for u in outline.unknown] == [(2, 7, 0), (3, 7, 0), (3, 39, 0)]
    assert message == NetParameter(layer=[LayerParameter(name="a", type="Fancy"), LayerParameter(name="b")])
    with pytest.raises(PrototxtError, match="expected"):
        text.parse("layer { fancy_param { 1 } }", NetParameter(), "net")


def test_a_net_within_a_solver_is_no_net_of_its_own():
    outline = text.parse("net_param { layer { fancy: 1 } }", SolverParameter(), "net")
    assert (outline.layer, outline.unknown[0].layer) == ((), None)


@pytest.mark.parametrize("opening", ["layer { ", "fancy { ", "fancy [ "])
def test_nesting_is_bounded(opening):
    with pytest.raises(PrototxtError):
        text.parse(opening * 5000, NetParameter(), "net")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"\x0a\x00\x01", "swapped"), (b" " * (text.MAX_BYTES + 1), "more than any prototxt")],
)
def test_what_is_no_text_is_refused(data, complaint):
    with pytest.raises(PrototxtError, match=complaint) as caught:
        text.decode(data, "net")
    assert (caught.value.line, caught.value.column) == (None, None)


def test_rendered_numbers_are_read_back_exactly():
    net = NetParameter(name="Größe")
    net.layer.add().power_param.scale = 0.1
    assert _parse(text.render(net)) == net
    assert "0.1" in text.render(net)


@given(st.text(), st.floats(width=32, allow_nan=False), st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_what_protobuf_writes_is_read_back(name, number, dim, flag):
    if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        name = ""
    net = NetParameter(name=name, input_dim=[dim, dim], force_backward=flag)
    net.layer.add(name=name, bottom=[name, "x"]).power_param.scale = number
    net.layer.add().pooling_param.pool = 1
    for style in (
        {},
        {"as_utf8": True},
        {"as_one_line": True},
        {"pointy_brackets": True},
        {"use_short_repeated_primitives": True},
    ):
        assert _parse(text_format.MessageToString(net, **style)) == net
