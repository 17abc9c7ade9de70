"""Fields that other Caffes have and BVLC's format lacks: whose they are, so that an error can say it."""

from __future__ import annotations

from collections.abc import Mapping

_SSD = "SSD's Caffe (weiliu89/caffe)"
_NVIDIA = "NVCaffe (NVIDIA/caffe)"
_INTEL = "Intel's Caffe (intel/caffe)"
_RCNN = "the Caffe of Fast R-CNN (rbgirshick/caffe-fast-rcnn)"
_RFCN = "the Caffe of R-FCN (daijifeng001/caffe-rfcn)"
_PSPNET = "PSPNet's Caffe (hszhao/PSPNet)"
_SEGNET = "SegNet's Caffe (alexgkendall/caffe-segnet)"
_DEEPLAB = "DeepLab's Caffe"
_CENTER = "the Caffe of the center loss (ydwen/caffe-face)"
_MARGINS = "the Caffe of the AM-Softmax (happynear)"
_SPHEREFACE = "SphereFace's Caffe (wy1iu/sphereface)"
_OPENPOSE = "OpenPose's Caffe (CMU)"
_FLOWNET = "FlowNet's Caffe"
_YOLO = "the Caffe ports of YOLO"

_OF_LAYERS: Mapping[str, str] = {
    "annotated_data_param": _SSD,
    "detection_evaluate_param": _SSD,
    "detection_output_param": _SSD,
    "multibox_loss_param": _SSD,
    "norm_param": _SSD,
    "permute_param": _SSD,
    "prior_box_param": _SSD,
    "video_data_param": _SSD,
    "roi_pooling_param": _RCNN,
    "smooth_l1_loss_param": _RCNN,
    "psroi_pooling_param": _RFCN,
    "box_annotator_ohem_param": _RFCN,
    "bn_param": _PSPNET,
    "interp_param": _PSPNET,
    "upsample_param": _SEGNET,
    "dense_image_data_param": _SEGNET,
    "densecrf_param": _DEEPLAB,
    "mat_read_param": _DEEPLAB,
    "mat_write_param": _DEEPLAB,
    "center_loss_param": _CENTER,
    "label_specific_add_param": _MARGINS,
    "cosin_add_param": _MARGINS,
    "inner_distance_param": _MARGINS,
    "general_triplet_param": _MARGINS,
    "normalize_param": _MARGINS,
    "margin_inner_product_param": _SPHEREFACE,
    "cpmdata_param": _OPENPOSE,
    "cpm_transform_param": _OPENPOSE,
    "imresize_param": _OPENPOSE,
    "nms_param": _OPENPOSE,
    "augmentation_param": _FLOWNET,
    "correlation_param": _FLOWNET,
    "l1_loss_param": _FLOWNET,
    "region_loss_param": _YOLO,
    "region_output_param": _YOLO,
    "reorg_param": _YOLO,
    "box_data_param": _YOLO,
    "shuffle_channel_param": "the Caffe of ShuffleNet (farmingyard/ShuffleNet)",
    "relu6_param": "the Caffes of MobileNet",
    "triplet_loss_param": "the Caffes of the triplet loss",
    "detectnet_groundtruth_param": _NVIDIA,
    "detectnet_augmentation_param": _NVIDIA,
    "quantization_param": _INTEL,
    "engine": _INTEL,
}
_OF_OTHERS: Mapping[tuple[str, str], str] = {
    ("TransformationParameter", "batch_sampler"): _SSD,
    ("TransformationParameter", "distort_param"): _SSD,
    ("TransformationParameter", "emit_constraint"): _SSD,
    ("TransformationParameter", "expand_param"): _SSD,
    ("TransformationParameter", "noise_param"): _SSD,
    ("TransformationParameter", "resize_param"): _SSD,
    ("TransformationParameter", "image_random_resize"): _NVIDIA,
    ("TransformationParameter", "use_gpu_transform"): _NVIDIA,
    ("SolverParameter", "eval_type"): _SSD,
    ("SolverParameter", "ap_version"): _SSD,
    ("SolverParameter", "plateau_winsize"): _SSD,
    ("SolverParameter", "iter_size_policy"): _NVIDIA,
    ("SolverParameter", "larc"): _NVIDIA,
    ("BatchNormParameter", "scale_filler"): _NVIDIA,
    ("BatchNormParameter", "bias_filler"): _NVIDIA,
    ("BatchNormParameter", "scale_bias"): _NVIDIA,
    ("BatchNormParameter", "engine"): f"{_NVIDIA} or {_INTEL}",
    ("BatchNormParameter", "slope_filler"): _PSPNET,
    ("NetParameter", "engine"): _INTEL,
    ("NetParameter", "compile_net_state"): _INTEL,
    ("PoolingParameter", "ceil_mode"): "the Caffe of SENet, among others,",
}

# NVCaffe's: in which precision and in what portions it computes, not what.
_WITHOUT_EFFECT = frozenset(
    {
        *(
            (message, f"{prefix}{way}_{what}")
            for message, prefix in (("LayerParameter", ""), ("NetParameter", "default_"))
            for way in ("forward", "backward")
            for what in ("type", "math")
        ),
        ("NetParameter", "default_cudnn_math_override"),
        ("NetParameter", "global_grad_scale"),
        ("NetParameter", "global_grad_scale_adaptive"),
        ("NetParameter", "global_grad_scale_param"),
        ("NetParameter", "reduce_buckets"),
        ("ConvolutionParameter", "conv_algos_override"),
        ("ConvolutionParameter", "cudnn_convolution_algo_seeker"),
        ("ConvolutionParameter", "cudnn_math_override"),
    }
)


def has_effect(message: str, field: str) -> bool:
    """Tell whether a field that the schema lacks could change what a net computes."""
    return (message, field) not in _WITHOUT_EFFECT


def fork_of(message: str, field: str) -> str | None:
    """Return which Caffe has a field, by the names of its message and of itself; None where that is not known."""
    if message in ("LayerParameter", "V1LayerParameter"):
        return _OF_LAYERS.get(field)
    return _OF_OTHERS.get((message, field))
