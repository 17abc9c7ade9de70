"""Nets from prototxts: the authors' own, twenty steps beside PyTorch, and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe.architectures import sphereface
from spherecv.errors import InvalidArgumentError, PrototxtError, UnsupportedLayerError
from spherecv.train.backend import Backend
from spherecv.train.net import Net, data_layers
from spherecv.train.policies import Policy
from spherecv.train.solver import Solver, SolverSettings


@pytest.mark.parametrize(("name", "layers"), [("sphereface_model", 21), ("sphereface_64_model", 63)])
def test_the_authors_nets_build_unchanged(data_dir: Path, single: Backend, name: str, layers: int) -> None:
    path = data_dir / "sphereface-prototxt" / f"{name}.prototxt"
    (data,) = data_layers(path)
    assert data.param.image_data_param.batch_size in (256, 128)
    net = Net.from_prototxt(path, single, shapes={"data": (1, 3, 112, 96), "label": (1,)})
    weighted = [layer for layer in net.layers if layer.spec.type in ("Convolution", "InnerProduct")]
    assert len(weighted) == layers
    assert set(net.outputs) == {"lambda", "softmax_loss"}
    frozen = [param.name for param in net.params if not param.trainable]
    assert "conv1_2/1" in frozen
    assert net.layer("conv1_1").params[1].lr_mult == 2


def test_twenty_steps_beside_torch(single: Backend) -> None:
    """SphereFace-4 with plain softmax, SGD with momentum, constant rate: within 1e-4 of PyTorch."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    text = str(sphereface(4)) + (
        'layer { name: "fc6" type: "InnerProduct" bottom: "fc5" top: "fc6" '
        'inner_product_param { num_output: 10 weight_filler { type: "xavier" } } } '
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }'
    )
    net = Net.from_prototxt(text.encode(), single, shapes={"data": (4, 3, 56, 48), "label": (4,)})
    for param in net.params:
        param.lr_mult = param.decay_mult = 1.0
    solver = Solver(net.params, SolverSettings(policy=Policy(base_lr=0.002), momentum=0.9, weight_decay=5e-4), single)
    modules = []
    for wide, deep in ((3, 64), (64, 128), (128, 256), (256, 512)):
        modules += [torch.nn.Conv2d(wide, deep, 3, 2, 1), torch.nn.PReLU(deep)]
    twin = torch.nn.Sequential(*modules, torch.nn.Flatten(), torch.nn.Linear(512 * 12, 512), torch.nn.Linear(512, 10))
    blobs = [param.to_caffe(single) for param in net.params]
    with torch.no_grad():
        for tensor, blob in zip(twin.parameters(), blobs, strict=True):
            tensor.copy_(torch.tensor(blob))
    optimizer = torch.optim.SGD(twin.parameters(), 0.002, momentum=0.9, weight_decay=5e-4)
    rng = np.random.default_rng(0)
    for iteration in range(20):
        x, labels = rng.normal(size=(4, 56, 48, 3)).astype(np.float32), rng.integers(0, 10, 4)
        loss = net.forward({"data": x, "label": labels}).loss
        net.backward()
        solver.step(iteration)
        optimizer.zero_grad()
        other = torch.nn.functional.cross_entropy(
            twin(torch.tensor(x.transpose(0, 3, 1, 2).copy())), torch.tensor(labels)
        )
        other.backward()
        optimizer.step()
        assert loss == pytest.approx(float(other.detach()), rel=1e-4)
    layers: dict[str, list[np.ndarray]] = {}
    for param, tensor in zip(net.params, twin.parameters(), strict=True):
        both = np.stack([param.to_caffe(single).reshape(-1), tensor.detach().numpy().reshape(-1)])
        layers.setdefault(param.name.split("/")[0], []).append(both)
    for name, parts in layers.items():
        mine, its = np.concatenate(parts, axis=1)
        assert np.linalg.norm(mine - its) < 1e-4 * np.linalg.norm(its), name


def test_batches_may_change_size(double: Backend) -> None:
    net = Net(sphereface(4), {"data": (2, 3, 16, 16)}, double)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 16, 16, 3))
    whole = net.forward({"data": x}, learn=False).blobs["fc5"].copy()
    parts = [net.forward({"data": x[i : i + 1]}, learn=False).blobs["fc5"].copy() for i in range(5)]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-9, atol=1e-12)


def test_frozen_layers_cost_no_gradient(double: Backend) -> None:
    net = Net(sphereface(4), {"data": (2, 3, 16, 16)}, double)
    for name in ("conv1_1", "relu1_1", "conv2_1"):
        for param in net.layer(name).params:
            param.lr_mult = 0
    net.refresh_needs()
    out = net.forward({"data": np.ones((2, 16, 16, 3))}).blobs["fc5"]
    net.backward({"fc5": np.ones_like(out)})
    assert all((param.grad is None) == (param.name[:-2] in ("conv1_1", "relu1_1", "conv2_1")) for param in net.params)


def test_until_leaves_out_what_is_not_needed(double: Backend) -> None:
    net = Net(sphereface(4), {"data": (1, 3, 16, 16)}, double, until="conv2_1")
    assert [layer.name for layer in net.layers] == ["conv1_1", "relu1_1", "conv2_1", "relu2_1"]
    with pytest.raises(InvalidArgumentError, match="makes no blob 'fc9'"):
        Net(sphereface(4), {"data": (1, 3, 16, 16)}, double, until="fc9")


CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { %s } }'


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (CONV % "num_output: 4 kernel_size: 9", Exception, "does not fit"),
        (CONV % "num_output: 4", PrototxtError, "at least 1"),
        (CONV % "num_output: 4 kernel_size: 3 group: 2", PrototxtError, "2 groups"),
        (CONV % 'num_output: 4 kernel_size: 3 weight_filler { type: "orthogonal" }', UnsupportedLayerError, "filler"),
        ('layer { name: "l" type: "Wave" bottom: "data" top: "l" }', UnsupportedLayerError, "it knows"),
        ('layer { name: "r" type: "ReLU" bottom: "nothing" top: "r" }', PrototxtError, "nothing"),
        ('layer { name: "e" type: "Eltwise" bottom: "data" top: "e" }', PrototxtError, "2 or more"),
        (
            'layer { name: "d" type: "Dropout" bottom: "data" top: "d" dropout_param { dropout_ratio: 1 } }',
            PrototxtError,
            "dropout_ratio",
        ),
    ],
)
def test_mistakes_name_the_layer(double: Backend, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Net.from_prototxt(text.encode(), double, shapes={"data": (1, 3, 6, 6)})


def test_missing_input(double: Backend) -> None:
    net = Net(sphereface(4), {"data": (1, 3, 16, 16)}, double)
    with pytest.raises(InvalidArgumentError, match="needs the input 'data'"):
        net.forward({})
