"""No setting of any layer is ignored: each is read somewhere, or is one that changes nothing in a deployed net."""

from __future__ import annotations

import re
from pathlib import Path

import spherecv.caffe.layers as package
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter

# Settings that a deployed net computes the same numbers with, whatever they are.
WITHOUT_EFFECT = {
    # how weights start, and how they learn
    "batch_norm_param": {"moving_average_fraction"},
    "bn_param": {"shift_filler", "slope_filler", "momentum", "engine", "var_eps"},  # var_eps: of the mode LEARN
    "dropout_param": {"dropout_ratio"},
    "eltwise_param": {"stable_prod_grad"},
    "embed_param": {"weight_filler"},
    "inner_product_param": {"weight_filler"},
    "normalize_param": {"fix_gradient", "bp_norm"},
    # which code computes, and what it says
    "convolution_param": {"weight_filler", "force_nd_im2col"},
    "detection_output_param": {"visualize_threshold"},
    "recurrent_param": {"weight_filler", "debug_info"},
    "python_param": {"share_in_parallel"},
}
EVERYWHERE = {"engine"}
# Of data, losses and the like, which deployment leaves out.
LEFT_OUT = {
    "accuracy_param", "blobs", "contrastive_loss_param", "data_param", "exclude", "hdf5_data_param",
    "hdf5_output_param", "hinge_loss_param", "image_data_param", "include", "infogain_loss_param", "input_param",
    "loss_param", "margin_inner_product_param", "memory_data_param", "param", "transform_param", "window_data_param",
}  # fmt: skip


def test_every_setting_is_read():
    folder = Path(package.__file__).parent
    source = "\n".join(path.read_text(encoding="utf8") for path in sorted(folder.glob("*.py")))
    ignored = []
    for settings in LayerParameter.DESCRIPTOR.fields:
        if settings.message_type is None or settings.name in LEFT_OUT:
            continue
        for field in settings.message_type.fields:
            excused = field.name in WITHOUT_EFFECT.get(settings.name, set()) | EVERYWHERE
            read = re.search(rf"\b{settings.name}\b", source) and re.search(rf"\b{field.name}\b", source)
            if not read and not excused:
                ignored.append(f"{settings.name}.{field.name}")
    assert ignored == []
