"""SphereCV's trainer beside PyTorch on the CPU: SphereFace-20, forward, backward and update, the same batch.

Each step of one is followed by a step of the other, so that both meet the same machine. Printed are the ratio of the
medians and its spread over rounds, seconds of the processor next to seconds of the clock (the former hardly change when
others use the machine too), and the peak memory of each in a process of its own.

    python benchmarks/train_cpu.py --threads 2 --batch 32 --rounds 7

What the work cannot go below is printed first (`FLOOR`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

IDENTITIES = 10572
FLOOR = """floor of one step, per image: 1.75 G multiply-adds forward, 5.25 G with both gradients (10.5 GFLOP);
5.6 MB of activations (1.4 M numbers), each written once and read at least twice in either direction;
and once per step 27.6 M parameters: read weight, gradient, velocity, write weight, velocity (552 MB)"""


def our_step(batch: int, threads: int):
    from spherecv.caffe.architectures import sphereface_training
    from spherecv.train.backend import open_backend
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.solver import Solver, SolverSettings

    backend = open_backend("cpu", threads=threads)
    shapes = {"data": (batch, 3, 112, 96), "label": (batch,)}
    net = Net(sphereface_training(20, identities=IDENTITIES, margin=1), shapes, backend)
    settings = SolverSettings(policy=Policy(base_lr=0.01), momentum=0.9, weight_decay=5e-4)
    solver = Solver(net.params, settings, backend)
    x, labels = numbers(batch)

    def step() -> float:
        loss = net.forward({"data": x, "label": labels}).loss
        net.backward()
        solver.step(0)
        return loss

    return step


def torch_net():
    """SphereFace-20 with its classifier, on the CPU."""
    from torch import nn

    class Unit(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            parts = []
            for _ in range(2):
                parts += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
                parts[-2].bias.requires_grad_(False)  # the authors freeze it
            self.body = nn.Sequential(*parts)

        def forward(self, x):
            return x + self.body(x)

    layers, wide = [], 3
    for channels, units in zip((64, 128, 256, 512), (1, 2, 4, 1), strict=True):
        layers += [nn.Conv2d(wide, channels, 3, 2, 1), nn.PReLU(channels), *(Unit(channels) for _ in range(units))]
        wide = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 42, 512), nn.Linear(512, IDENTITIES, bias=False))


def torch_step(batch: int, threads: int, channels_last: bool):
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    net = torch_net()
    images, labels = numbers(batch)
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> float:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def numbers(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, 112, 96, 3)).astype(np.float32), rng.integers(0, IDENTITIES, batch)


def timed(step) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - clock, time.process_time() - cpu


def peak_memory() -> float:
    """This process's peak of resident memory in MiB; getrusage would tell its parent's where that was larger."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def memory(which: str, arguments: argparse.Namespace) -> float:
    """Peak resident memory in MiB of three steps in a fresh process."""
    command = [sys.executable, __file__, "--only", which, "--batch", str(arguments.batch)]
    command += ["--threads", str(arguments.threads)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["spherecv", "torch", "torch-last"])
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    make = {
        "spherecv": lambda: our_step(arguments.batch, arguments.threads),
        "torch": lambda: torch_step(arguments.batch, arguments.threads, channels_last=False),
        "torch-last": lambda: torch_step(arguments.batch, arguments.threads, channels_last=True),
    }
    if arguments.only:
        step = make[arguments.only]()
        for _ in range(3):
            step()
        print(peak_memory())
        return
    print(FLOOR)
    steps = {name: maker() for name, maker in make.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            times[name].append(timed(step))
    print(f"{os.uname().machine}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, batch {arguments.batch}")
    for name, found in times.items():
        clock, cpu = (np.median([t[i] for t in found]) for i in (0, 1))
        useful = 10.5 * arguments.batch / clock
        print(f"{name:11} {clock:6.3f} s a step, {cpu:6.3f} s of processor, {useful:4.0f} useful GFLOP/s")
    for peer in ("torch", "torch-last"):
        for label, i in (("clock", 0), ("processor", 1)):
            ratios = sorted(p[i] / m[i] for p, m in zip(times[peer], times["spherecv"], strict=True))
            low, middle, high = ratios[0], ratios[len(ratios) // 2], ratios[-1]
            print(f"speed against {peer:10} by {label:9}: {middle:.2f} x ({low:.2f} to {high:.2f})")
    if not arguments.no_memory:
        peaks = {name: memory(name, arguments) for name in make}
        for name, peak in peaks.items():
            print(f"{name:11} peak memory {peak:6.0f} MiB, {peak / peaks['torch']:.2f} of PyTorch's")


if __name__ == "__main__":
    main()
