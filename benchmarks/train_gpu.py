"""SphereCV's trainer through CuPy beside PyTorch on one GPU: SphereFace-20, fp32, TF32 off in both.

    python benchmarks/train_gpu.py --batch 256 --rounds 10

Not yet run by us: written without a GPU at hand.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # read by cuBLAS and cuDNN when they are loaded: both peers compute in fp32

import numpy as np
from train_cpu import IDENTITIES, numbers, torch_net


def our_step(batch: int):
    import cupy

    from spherecv.caffe.architectures import sphereface_training
    from spherecv.train.backend import open_backend
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.solver import Solver, SolverSettings

    backend = open_backend("cuda")
    shapes = {"data": (batch, 3, 112, 96), "label": (batch,)}
    net = Net(sphereface_training(20, identities=IDENTITIES, margin=1), shapes, backend)
    settings = SolverSettings(policy=Policy(base_lr=0.01), momentum=0.9, weight_decay=5e-4)
    solver = Solver(net.params, settings, backend)
    images, labels = numbers(batch)
    x, y = backend.asarray(images), backend.asindex(labels)

    def step() -> None:
        net.forward({"data": x, "label": y})
        net.backward()
        solver.step(0)
        cupy.cuda.Device().synchronize()

    return step


def torch_step(batch: int):
    import torch
    from torch import nn

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    net = torch_net().cuda()
    images, labels = numbers(batch)
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()).cuda(), torch.tensor(labels).cuda()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    steps = {"spherecv": our_step(arguments.batch), "torch": torch_step(arguments.batch)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    for name, found in times.items():
        print(f"{name:9} {np.median(found) * 1e3:8.1f} ms a step, {arguments.batch / np.median(found):7.0f} images/s")
    ratios = sorted(t / m for t, m in zip(times["torch"], times["spherecv"], strict=True))
    print(f"speed against torch: {ratios[len(ratios) // 2]:.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
