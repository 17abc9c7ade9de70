"""What has never run on a GPU, verified and timed on one CUDA machine, in under eight minutes.

    python benchmarks/gpu_check.py [--json gpu.json]

Each step runs in a process of its own within a time limit; a step that fails or hangs does not stop the others. A table
and a JSON file come out. Exit code 0 where all steps agree, 1 where one does not, and 3 without a GPU: then the plan is
printed. Needs `pip install 'spherecv[cuda,gpu,train]'`. `--device cpu` lets NumPy stand in for CuPy and ONNX Runtime's
CPU provider for its CUDA provider: that tries this script, not the GPU.

Not yet run on a GPU by us: written without one at hand.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # read by cuBLAS and cuDNN when they are loaded: fp32 is compared with fp32

import numpy as np
from measure import machine_line

NO_GPU = 3
LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "scale" top: "prelu" }
layer { name: "lrn" type: "LRN" bottom: "prelu" top: "lrn" }
layer { name: "group" type: "Convolution" bottom: "lrn" top: "group"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "group" top: "relu" }
layer { name: "sum" type: "Eltwise" bottom: "relu" bottom: "prelu" top: "sum" }
layer { name: "max" type: "Pooling" bottom: "sum" top: "max" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "ave" type: "Pooling" bottom: "sum" top: "ave" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "concat" type: "Concat" bottom: "max" bottom: "ave" top: "concat" }
layer { name: "sigmoid" type: "Sigmoid" bottom: "concat" top: "sigmoid" }
layer { name: "fc" type: "InnerProduct" bottom: "sigmoid" top: "fc"
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


class Step(NamedTuple):
    """A check: what it shows, how long it may take, and its work, which answers with figures."""

    about: str
    seconds: int
    work: Callable[[str], dict[str, Any]]


class SkippedError(Exception):
    """The machine lacks what a step needs."""


def layers(device: str) -> dict[str, Any]:
    """Blobs and gradients of a net of many layers."""
    return _against_numpy(LAYERS.encode(), {"data": (4, 3, 24, 20), "label": (4,)}, device, steps=1, bound=1e-3)


def losses(device: str) -> dict[str, Any]:
    """Values and gradients of every angular loss of the trainer."""
    from spherecv.train.backend import open_backend
    from spherecv.train.losses import ArcFace, ASoftmax, CosFace, SphereFace2, SphereFaceR

    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(16, 32)), rng.integers(0, 10, 16)
    worst: dict[str, float] = {}
    for kind in (ASoftmax, CosFace, ArcFace, SphereFace2, SphereFaceR):
        answers = []
        for backend in (open_backend("cpu", threads=2), open_backend(device)):
            with backend.active():
                loss = kind(10)
                loss.build(backend, 32, np.random.default_rng(1))
                value = loss.forward(backend.asarray(features), backend.asindex(labels)).value
                grads = [loss.backward(), *(param.grad for param in loss.params)]
                answers.append([value, *(backend.numpy(grad) for grad in grads)])
        worst[kind.__name__] = max(_off(one, other) for one, other in zip(*answers, strict=True))
    return _within(max(worst.values()), 1e-3, losses=worst)


def training(device: str) -> dict[str, Any]:
    """Twenty steps of a small SphereFace net with A-Softmax, on NumPy and on the device: equal losses."""
    from spherecv.caffe.architectures import sphereface_training

    net = sphereface_training(4, identities=10, margin=4)
    return _against_numpy(net, {"data": (8, 3, 112, 96), "label": (8,)}, device, steps=20, bound=1e-4)


def speed(device: str) -> dict[str, Any]:
    """Images a second of a training step of SphereFace-20, and the memory that it takes."""
    import train_cpu
    import train_gpu

    batch, rounds = (256, 10) if device == "cuda" else (2, 2)
    step = train_gpu.our_step(batch) if device == "cuda" else train_cpu.our_step(batch, 2)
    taken = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return {"agrees": True, "images/s": batch / float(np.median(taken[2:])), "MB": _memory(device)}


def processes(device: str) -> dict[str, Any]:
    """The mean of two processes' arrays: by NCCL between two GPUs."""
    if device != "cuda":
        raise SkippedError("NCCL joins GPUs")
    from spherecv.train.backend import cupy_backend

    if cupy_backend.gpu_count() < 2:
        raise SkippedError(f"two GPUs are needed, and here is {cupy_backend.gpu_count()}")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_one_of_two, args=(rank, queue)) for rank in range(2)]
    for process in both:
        process.start()
    found = [queue.get(timeout=60) for _ in both]
    for process in both:
        process.join(timeout=10)
    return _within(max(abs(value - 0.5) for value in found), 0.0)


def _one_of_two(rank: int, queue: Any) -> None:
    from spherecv.train.backend import open_backend
    from spherecv.train.parallel import NcclGroup

    backend = open_backend("cuda", index=rank)
    group = NcclGroup(backend, rank, 2, 23456)
    with backend.active():
        rows = backend.asarray(np.full((1000, 100), rank, np.float32))
    queue.put(float(backend.numpy(group.mean([rows])[0]).max()))
    group.close()


def inference(device: str) -> dict[str, Any]:
    """Every net that is here, on ONNX Runtime's CUDA provider beside its CPU provider."""
    from spherecv.runtime import Session
    from spherecv.zoo import mtcnn_onnx, open_model

    nets = {**mtcnn_onnx(), "sphereface-mini": open_model("sphereface-mini").onnx()}
    rng = np.random.default_rng(0)
    answer: dict[str, Any] = {}
    worst = 0.0
    for name, model in nets.items():
        there, here = Session(model, backend="onnxruntime", device=device), Session(model, backend="onnxruntime")
        (shape,) = here.inputs.values()
        data = rng.normal(size=(32, *(side or 96 for side in shape[1:]))).astype(np.float32)
        one, other = there.run(data), here.run(data)
        worst = max([worst, *(_off(one[output], other[output]) for output in one)])
        start = time.perf_counter()
        for _ in range(10):
            there.run(data)
        answer[f"{name} images/s"] = 320 / (time.perf_counter() - start)
    return {**_within(worst, 1e-3), **answer, "MB": _memory(device)}


STEPS = {
    "layers": Step("layers and gradients, CuPy against NumPy, within 1e-3", 90, layers),
    "losses": Step("angular losses and gradients, CuPy against NumPy, within 1e-3", 60, losses),
    "training": Step("one training run, CuPy against NumPy, losses within 1e-4", 90, training),
    "processes": Step("two processes joined by NCCL, where two GPUs are", 80, processes),
    "inference": Step("every net on ONNX Runtime's CUDA provider against its CPU provider, within 1e-3", 80, inference),
    "speed": Step("a training step of SphereFace-20, batch 256: images a second and memory", 70, speed),
}


def _against_numpy(net: Any, shapes: dict[str, Any], device: str, *, steps: int, bound: float) -> dict[str, Any]:
    from spherecv.train.backend import open_backend
    from spherecv.train.net import Net
    from spherecv.train.policies import Policy
    from spherecv.train.solver import Solver, SolverSettings

    runs, start = [], None
    for backend in (open_backend("cpu", threads=2), open_backend(device)):
        with backend.active():
            make = Net.from_prototxt if isinstance(net, bytes) else Net
            made = make(net, backend=backend, shapes=shapes)
            if start is None:
                start = [param.to_caffe(backend) for param in made.params]
            for param, values in zip(made.params, start, strict=True):
                param.from_caffe(backend, values)
            solver = Solver(made.params, SolverSettings(policy=Policy(base_lr=0.002), momentum=0.9), backend)
            rng, seen, grads = np.random.default_rng(1), [], []
            batch, _, height, width = shapes["data"]
            for number in range(steps):
                data = backend.asarray(rng.normal(size=(batch, height, width, 3)))
                labels = backend.asindex(rng.integers(0, 7, batch))
                seen.append(float(made.forward({"data": data, "label": labels}).loss))
                made.backward()
                if steps == 1:
                    grads = [backend.numpy(param.grad) for param in made.params if param.grad is not None]
                solver.step(number)
            runs.append([np.array(seen), *grads])
    return _within(max(_off(one, other) for one, other in zip(*runs, strict=True)), bound, compared=len(runs[0]))


def _off(one: Any, other: Any) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(np.asarray(one) - np.asarray(other)).max() / max(float(np.abs(np.asarray(other)).max()), 1e-6))


def _within(off: float, bound: float, **more: Any) -> dict[str, Any]:
    return {"agrees": off <= bound, "off": off, "bound": bound, **more}


def _memory(device: str) -> float:
    """Megabytes in use on the GPU, as the driver counts them; of this process, where NumPy stands in."""
    if device == "cuda":
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(name: str, device: str) -> dict[str, Any]:
    """Run one step within its time limit; a failure is an answer as well."""
    command = [sys.executable, __file__, "--step", name, "--device", device]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEPS[name].seconds)
        lines = done.stdout.strip().splitlines()
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        answer = json.loads(lines[-1]) if done.returncode == 0 and lines else {"agrees": False, "error": last[0]}
    except subprocess.TimeoutExpired:
        answer = {"agrees": False, "error": f"longer than {STEPS[name].seconds} s"}
    return {**answer, "seconds": time.perf_counter() - start}


def why_no_gpu() -> str:
    """Say what is missing; nothing where there is a GPU."""
    from spherecv.train.backend import cupy_backend

    if cupy_backend.gpu_count():
        return ""
    return "no GPU that CuPy can use: check nvidia-smi and `pip install 'spherecv[cuda]'`"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        try:
            print(json.dumps(STEPS[arguments.step].work(arguments.device)))
        except SkippedError as reason:
            print(json.dumps({"agrees": None, "skipped": str(reason)}))
        return 0
    missing = why_no_gpu() if arguments.device == "cuda" else ""
    if missing:
        print(f"{missing}\nWith one, these steps would run, {sum(step.seconds for step in STEPS.values())} s at most:")
        for name, step in STEPS.items():
            print(f"  {name:10} {step.seconds:3} s at most  {step.about}")
        return NO_GPU
    answers = {}
    print("| step | agrees | seconds | figures |\n| --- | --- | ---: | --- |")
    for name in arguments.only:
        answers[name] = answer = in_a_process(name, arguments.device)
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in answer.items()}
        text = ", ".join(f"{key} {value}" for key, value in shown.items() if key not in ("agrees", "seconds"))
        print(f"| {name} | {answer['agrees']} | {answer['seconds']:.1f} | {text} |", flush=True)
    report = {"machine": machine_line("cupy-cuda12x", "onnxruntime-gpu"), "device": arguments.device, "steps": answers}
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if any(answer["agrees"] is False for answer in answers.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
