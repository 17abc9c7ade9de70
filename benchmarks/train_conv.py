"""Which convolution kernel for which shape: forward and backward of SphereFace's layers, each kernel beside PyTorch.

Prints milliseconds of the processor (one thread), which other users of the machine disturb little; from this the limits
in `spherecv/train/backend/numpy_convolution.py` are set.

    python benchmarks/train_conv.py --batch 16 --rounds 5
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from spherecv.train.backend import numpy_convolution as kernels
from spherecv.train.backend.numpy_backend import NumpyBackend
from spherecv.train.geometry import Window

SHAPES = [  # channels in, out, map in, stride
    (3, 64, (112, 96), 2),
    (64, 64, (56, 48), 1),
    (64, 128, (56, 48), 2),
    (128, 128, (28, 24), 1),
    (128, 256, (28, 24), 2),
    (256, 256, (14, 12), 1),
    (256, 512, (14, 12), 2),
    (512, 512, (7, 6), 1),
]


def always(kernel, images: int):
    return lambda *_: (kernel, images)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--only", type=int, nargs="*", help="places in the list of shapes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backend, rng = NumpyBackend(1), np.random.default_rng(0)
    chosen = kernels.choose
    for place, (wide, deep, size, stride) in enumerate(SHAPES):
        if arguments.only and place not in arguments.only:
            continue
        window = Window((3, 3), (stride, stride), (1, 1))
        x = rng.normal(size=(arguments.batch, *size, wide)).astype(np.float32)
        weight = (rng.normal(size=(3, 3, wide, deep)) / np.sqrt(9 * wide)).astype(np.float32)
        bias = np.zeros(deep, np.float32)
        dy = rng.normal(size=(arguments.batch, *window.output(*size), deep)).astype(np.float32)
        tx = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=wide != 3)
        tw, tb = torch.tensor(weight.transpose(3, 2, 0, 1).copy(), requires_grad=True), torch.tensor(bias)
        tdy = torch.tensor(dy.transpose(0, 3, 1, 2).copy())
        runs: dict[str, list[tuple[float, float]]] = {}
        names = ["COLUMNS"] if stride > 1 else ["COLUMNS", "WINOGRAD2", "WINOGRAD4"]
        pick = [(name, images) for name in names for images in arguments.images if images <= arguments.batch]
        for _ in range(arguments.rounds):
            start = time.process_time()
            ty = torch.nn.functional.conv2d(tx, tw, tb, stride, 1)
            middle = time.process_time()
            ty.backward(tdy)
            runs.setdefault("torch", []).append((middle - start, time.process_time() - middle))
            for name, images in [*pick, ("chosen", 0)]:
                kernels.choose = always(getattr(kernels, name), images) if images else chosen
                start = time.process_time()
                backend.convolve(x, weight, bias, window)
                middle = time.process_time()
                backend.convolve_backward(x, weight, dy, window, need_x=wide != 3)
                runs.setdefault(f"{name} {images}", []).append((middle - start, time.process_time() - middle))
        kernels.choose = chosen
        print(f"{wide} -> {deep}, {size[0]}x{size[1]}, stride {stride}: ms forward, backward; sum against torch")
        both = {name: np.median(found, axis=0) * 1e3 for name, found in runs.items()}
        for name, (forward, backward) in both.items():
            ratio = both["torch"].sum() / (forward + backward)
            print(f"  {name:12} {forward:7.1f} {backward:7.1f}  {ratio:5.2f}")


if __name__ == "__main__":
    main()
