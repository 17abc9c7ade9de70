"""Caffe's ImageData layer: what a train prototxt says about its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherecv.caffe.blobs import read_blob
from spherecv.caffe.graph import Layer as Spec
from spherecv.caffe.reader import read_message
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto
from spherecv.errors import ImageError, InvalidArgumentError, UnsupportedLayerError
from spherecv.images import load_image
from spherecv.train.data import Augmentation, Dataset, Order, SequentialOrder, ShuffledOrder, View, from_list
from spherecv.train.data.dataset import Location, open_dataset
from spherecv.train.data.reading import bytes_of
from spherecv.train.feed import Feed, Pixels
from spherecv.train.params import Shape

_TRIED = 100  # images whose size is asked for before the list is given up


@dataclass(frozen=True)
class Source:
    """The images of an ImageData layer.

    Attributes
    ----------
    dataset : Dataset
    order : Order
    view : View
    feed : Feed
    batch_size : int
    """

    dataset: Dataset
    order: Order
    view: View
    feed: Feed
    batch_size: int

    def shapes(self) -> dict[str, Shape]:
        """Return the shapes of the layer's tops, in Caffe's order."""
        size = (self.batch_size, self.view.channels, self.view.height, self.view.width)
        return {self.feed.data: size, self.feed.label: (self.batch_size,)}


def source_of(
    spec: Spec,
    *,
    folder: Path,
    data: tuple[Location, ...] = (),
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    training: bool = True,
) -> Source:
    """Read an ImageData layer and its list.

    Parameters
    ----------
    spec : Spec
        The layer.
    folder : Path
        Where the prototxt is: lists that are not found from the working folder are looked for there.
    data : tuple of path
        Data sets to use in place of the layer's list.
    batch_size : int, optional
        In place of the layer's.
    augmentation : Augmentation, optional
        In place of the layer's, which can be the mirror only.
    seed : int
        Of the order.
    training : bool
        Whether `crop_size` cuts at a random place; else in the middle.
    """
    if spec.type != "ImageData":
        raise spec.unsupported("the trainer reads its images through ImageData layers only")
    if len(spec.tops) != 2:
        raise spec.mistake("needs two tops: images and labels")
    # As in Caffe, scale, mirror, crop_size and mean_file are transform_param's: image_data_param's have no effect here
    # (in the older `layers` they were moved), nor has what is for encoded records, force_color and force_gray.
    image, transform = spec.param.image_data_param, spec.param.transform_param
    if image.rand_skip:
        raise spec.unsupported("rand_skip is not known: use shuffle")
    if bool(image.new_height) != bool(image.new_width):
        raise spec.mistake("needs new_height and new_width, or neither")
    dataset = open_dataset(*data).check() if data else from_list(_found(image.source, folder), root=image.root_folder)
    count = batch_size or image.batch_size
    order: Order
    if image.shuffle:
        order = ShuffledOrder(len(dataset.items), count, seed=seed)
    else:
        order = SequentialOrder(len(dataset.items), count)
    mirror, crop = bool(transform.mirror), int(transform.crop_size)
    resize = (int(image.new_height), int(image.new_width))
    height, width = (crop, crop) if crop else (resize if all(resize) else _first_size(dataset))
    view = View(
        height,
        width,
        resize=resize if all(resize) else (0, 0),
        random_crop=bool(crop) and training,
        colour=bool(image.is_color),
        augmentation=Augmentation(mirror=mirror) if augmentation is None else augmentation,
    )
    mean = _mean(spec, folder)
    if len(mean) not in (1, view.channels):
        raise spec.mistake(f"has {len(mean)} means for {view.channels} channels: give one, or one for each")
    return Source(dataset, order, view, Feed(Pixels(mean, transform.scale), spec.tops[0], spec.tops[1]), count)


def _found(name: str, folder: Path) -> Path:
    for candidate in (Path(name), folder / name, folder / Path(name).name):
        if candidate.is_file():
            return candidate
    raise InvalidArgumentError(f"the list {name!r} is not there: pass the data with --data, or mend `source`")


def _first_size(dataset: Dataset) -> tuple[int, int]:
    """Return the size of the first image that can be read, as Caffe takes the first one's."""
    failure: ImageError | None = None
    for item in dataset.items[:_TRIED]:
        try:
            height, width = load_image(bytes_of(item) if item.size else item.path).shape[:2]
        except ImageError as error:
            failure = failure or error
        else:
            return int(height), int(width)
    raise ImageError(f"none of the first {_TRIED} images can be read: {failure}")


def _mean(spec: Spec, folder: Path) -> tuple[float, ...]:
    transform = spec.param.transform_param
    named = transform.mean_file
    if named and transform.mean_value:
        raise spec.mistake("has mean_file and mean_value: keep one")
    if not named:
        return tuple(transform.mean_value) or (0.0,)
    values = read_blob(read_message(_found(named, folder), BlobProto)).reshape(-1, *[1] * 2)
    if values.shape[0] not in (1, 3):
        raise UnsupportedLayerError(f"{spec}: mean_file must hold one number per channel; a mean image is not known")
    return tuple(float(value) for value in np.asarray(values).reshape(-1))
