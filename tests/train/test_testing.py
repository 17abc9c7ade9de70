"""Nets that are tested while another one learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.log import Log
from spherecv.train.run import open_run
from spherecv.train.settings import SolverSettings

NET = """
layer { name: "train" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mean_value: 127.5 scale: 0.0078125 } image_data_param { source: "people.txt" batch_size: 6 } }
layer { name: "test" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { mean_value: 127.5 scale: 0.0078125 } image_data_param { source: "people.txt" batch_size: 5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "fc" top: "fc" batch_norm_param { moving_average_fraction: 0.5 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 2 }
"""
DUMMY = """
layer { name: "data" type: "DummyData" top: "data" top: "target"
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 }
    data_filler { type: "gaussian" std: 1 } data_filler { value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
"""


@pytest.fixture
def solver(small_run: Path) -> Path:
    (small_run.parent / "train.prototxt").write_text(NET)
    small_run.write_text(
        'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 4 snapshot_after_train: false '
        "test_iter: 4 test_interval: 2 test_compute_loss: true\n"
    )
    return small_run


def test_while_it_learns(solver: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with open_run(solver, workers=0, threads=1, log=Log(log)) as run:
        trainer = run.trainer
        trainer.run()
        (result,) = trainer.test()
        images = np.concatenate([trainer.tests[0].batches.next().images for _ in range(4)])
        labels = np.repeat(np.arange(4), 5)
        weight, bias, mean, variance, factor = (param.to_caffe(trainer.net.backend) for param in trainer.net.params)
    lines = [line.split("spherecv] ")[1] for line in log.read_text().splitlines()]
    assert [line for line in lines if "Testing" in line] == [f"Iteration {n}, Testing net (#0)" for n in (0, 2, 4)]
    x = ((images.astype(float) - 127.5) / 128).transpose(0, 3, 1, 2).reshape(20, -1)
    scores = (x @ weight.T + bias - mean / factor) / np.sqrt(variance / factor + 1e-5)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(20), labels].mean()
    assert result.outputs["loss"] == pytest.approx(loss, rel=1e-4)
    assert result.loss == pytest.approx(2 * loss, rel=1e-4)
    assert result.outputs["accuracy"] == pytest.approx((scores.argmax(axis=1) == labels).mean())
    assert lines[-1] == f"    Test net output #1: loss = {result.outputs['loss']:.6g} (* 2 = {result.loss:.6g} loss)"
    assert lines[-3] == f"Test loss: {result.loss:.6g}"


def test_training_is_not_changed_by_tests(solver: Path) -> None:
    found = []
    for text in (solver.read_text(), solver.read_text().replace("test_interval: 2", "test_interval: 1")):
        solver.write_text(text)
        with open_run(solver, workers=0, threads=1) as run:
            run.trainer.run()
            found.append([param.to_caffe(run.trainer.net.backend) for param in run.trainer.net.params])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


def test_no_test_at_the_beginning(solver: Path, tmp_path: Path) -> None:
    solver.write_text(solver.read_text() + "test_initialization: false")
    with open_run(solver, workers=0, log=Log(tmp_path / "run.log")) as run:
        run.trainer.run()
    assert "Iteration 0, Testing" not in (tmp_path / "run.log").read_text()


def test_a_net_of_its_own(solver: Path) -> None:
    """test_net comes first, then `net` for what is left of test_iter; test_state chooses layers."""
    own = NET.replace('top: "accuracy" include { phase: TEST }', 'top: "accuracy" exclude { stage: "s" }')
    (solver.parent / "own.prototxt").write_text(own)
    solver.write_text(
        solver.read_text() + 'test_net: "own.prototxt" test_iter: 1 test_state { stage: "s" } test_state { }\n'
    )
    with open_run(solver, workers=0) as run:
        results = run.trainer.test()
    assert [set(result.outputs) for result in results] == [{"loss"}, {"accuracy", "loss"}]


def test_another_net_under_the_same_name(solver: Path) -> None:
    (solver.parent / "own.prototxt").write_text(NET.replace("num_output: 4", "num_output: 5"))
    solver.write_text(solver.read_text() + 'test_net: "own.prototxt"')
    with open_run(solver, workers=0) as run, pytest.raises(InvalidArgumentError, match="other weights under this name"):
        run.trainer.test()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('net: "a" test_iter: 1', "test_interval must be at least 1"),
        ('net: "a" test_net: "b" test_interval: 1', "test_iter is given 0 times for 1"),
        ('train_net: "a" test_iter: 1 test_interval: 1', "test_iter is given 1 times for 0"),
        ('net: "a" test_iter: 1 test_interval: 1 test_state {} test_state {}', "test_state is given 2 times for 1"),
        ('net: "a" test_iter: 0 test_interval: 1', "test_iter must be at least 1"),
    ],
)
def test_what_caffe_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SolverSettings.from_prototxt(f'lr_policy: "fixed" {text}'.encode())


def test_a_net_that_makes_its_own_data(solver: Path) -> None:
    (solver.parent / "train.prototxt").write_text(DUMMY)
    solver.write_text(solver.read_text().replace("test_iter: 4", "test_iter: 2"))
    with open_run(solver, workers=0) as run:
        before = run.trainer.test()[0].loss
        run.trainer.run()
        assert run.trainer.test()[0].loss < before
    (solver.parent / "train.prototxt").write_text(DUMMY.replace("DummyData", "Input").replace("dummy_data", "input"))
    with pytest.raises(PrototxtError), open_run(solver, workers=0):
        pass
