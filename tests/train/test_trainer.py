from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from spherecv.errors import InvalidArgumentError, TrainingError
from spherecv.train.backend import Backend
from spherecv.train.data import Batch
from spherecv.train.log import Log, Progress, draw_loss, plot_loss
from spherecv.train.losses import ASoftmax, SoftmaxLoss
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.run import open_run
from spherecv.train.solver import Solver, SolverSettings
from spherecv.train.trainer import Feed, Pixels, Trainer

DENSE = b"""layer { name: "fc5" type: "InnerProduct" bottom: "data" top: "fc5"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }"""


class _Endless:
    """Two pictures, forever."""

    def __init__(self, labels: tuple[int, int] = (0, 1)) -> None:
        self.next_number, self.labels = 0, np.array(labels)

    def next(self) -> Batch:
        self.next_number += 1
        images = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((2, 2, 2, 1), np.uint8)
        return Batch(self.next_number - 1, images, self.labels, np.arange(2), ())

    def seek(self, number: int) -> None:
        self.next_number = number


def _trainer(backend: Backend, rate: float, labels: tuple[int, int] = (0, 1), **settings: object) -> Trainer:
    net = Net.from_prototxt(DENSE, backend, shapes={"data": (2, 1, 2, 2)})
    solver = SolverSettings(policy=Policy(base_lr=rate), max_iter=5, snapshot_after_train=False)
    return Trainer(net, solver, _Endless(labels), loss=SoftmaxLoss(2), embedding="fc5", **settings)  # type: ignore[arg-type]


def test_it_learns_what_is_easy(double: Backend) -> None:
    trainer = _trainer(double, 0.1, labels=(1, 0))
    first = trainer.step()
    for _ in range(30):
        last = trainer.step()
    assert last < 0.1 * first


def test_pixels_are_caffes() -> None:
    values = Pixels((104.0, 117.0, 123.0), 0.5)(np.array([[[[10, 20, 30]]]], np.uint8))
    np.testing.assert_allclose(values, [[[[-47, -48.5, -46.5]]]])
    assert values.dtype == np.float32


def test_a_loss_that_is_no_number_stops_with_advice(double: Backend) -> None:
    trainer = _trainer(double, 1.0)
    trainer.net.params[0].data = np.full_like(trainer.net.params[0].data, np.nan)
    with pytest.raises(TrainingError, match=r"nan at iteration 0: lower base_lr.*lambda_min"):
        trainer.run()


def test_a_loss_that_is_stuck_stops_with_advice(double: Backend) -> None:
    trainer = _trainer(double, 0.0)
    trainer.settings = trainer.settings.replaced(max_iter=50)
    trainer.net.params[0].data = np.full_like(trainer.net.params[0].data, 1e6) * np.array([[1.0], [-1], [1]])
    with pytest.raises(TrainingError, match=r"for 20 iterations \(iteration 19\)"):
        trainer.run()


def test_a_run_that_is_broken_off_says_where_it_goes_on(
    double: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "run.log"
    trainer = _trainer(double, 0.1, log=Log(log))
    step, last = trainer.step, [1, 3]

    def broken_off() -> float:
        if trainer.iteration == last[0]:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(trainer, "step", broken_off)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert "broken off in iteration 1: no snapshot was written yet" in log.read_text()
    state = trainer.snapshot(tmp_path / "small")
    del last[0]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert f"broken off in iteration 3: --resume {state} goes on" in log.read_text()


def test_loss_and_embedding_belong_together(double: Backend) -> None:
    net = Net.from_prototxt(DENSE, double, shapes={"data": (2, 1, 2, 2)})
    with pytest.raises(InvalidArgumentError, match="belong together"):
        Trainer(net, SolverSettings(), _Endless(), loss=SoftmaxLoss(2))
    with pytest.raises(InvalidArgumentError, match="no loss layer"):
        Trainer(net, SolverSettings(), _Endless())


def test_log_table_and_plot(double: Backend, tmp_path: Path) -> None:
    log = Log(tmp_path / "run.log", tmp_path / "run.csv")
    trainer = _trainer(double, 0.1, log=log)
    trainer.settings = trainer.settings.replaced(display=2)
    loss = trainer.run()
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split("] ")[1].split(" (")[0] for line in lines if "img/s" in line] == [
        "Iteration 0",
        "Iteration 2",
        "Iteration 4",
    ]
    assert all(line[0] == "I" and line[5] == " " and " spherecv] " in line for line in lines)
    rows = list(csv.DictReader((tmp_path / "run.csv").read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == list(range(5))
    assert float(rows[-1]["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(rows[0]["lr"]) == pytest.approx(0.1)
    assert plot_loss(tmp_path / "run.csv", tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InvalidArgumentError, match="no table"):
        plot_loss(tmp_path / "run.log", tmp_path / "x.png")


def test_a_table_that_a_kill_cut_short(tmp_path: Path) -> None:
    table = tmp_path / "run.csv"
    table.write_text("iteration,loss,lr\n0,2.0,0.1\n1,1.\n1,1.5,0.1\n2,1.2,0.1\n3")
    assert plot_loss(table, tmp_path / "run.svg").read_text().startswith("<?xml")


def test_live_table(double: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: loss, rate, pictures a second, time left, and what the loss tells of itself (lambda)."""
    import rich.console

    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    console = rich.console.Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    trainer = _trainer(double, 0.1, log=Log(live=True))
    trainer.loss = ASoftmax(2)
    trainer.loss.build(double, 3, np.random.default_rng(0))
    trainer.solver = Solver(trainer.params, trainer.settings, double)
    trainer.run()
    shown = screen.getvalue()
    for word in ("iteration 5 of 5", "loss", "lambda", "lr", "images/s", "time left", "0:00:00"):
        assert word in shown
    assert f"{trainer.smoothed:.4f}" in shown


def test_no_table_where_there_is_no_terminal(double: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    _trainer(double, 0.1, log=Log(live=True)).run()
    assert capsys.readouterr().err == ""


def test_lines_where_there_is_no_terminal(
    double: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 6))  # every look at it is 6 seconds later
    monkeypatch.setattr("spherecv.train.log.time.monotonic", lambda: float(next(clock)))
    _trainer(double, 0.1, log=Log(live=True)).run()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    for word in ("iteration 2 of 5: loss ", "lr 0.1", "images/s ", "time left 0:00:0"):
        assert word in lines[0]


def test_lines_of_a_run_in_short_parts(
    double: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fine-tuning runs, between its looks at the people held out."""
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr("spherecv.train.log.time.monotonic", lambda: float(next(now)))
    trainer = _trainer(double, 0.1, log=Log(live=True))
    for _ in range(5):
        trainer.run(1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("iteration 5 of 5: loss ")


def test_the_plot_says_what_was_set(tmp_path: Path) -> None:
    figure = draw_loss("mine", {0: (2.0, 0.1, 1000.0), 1: (1.5, 0.01, 5.0)}, Figure())
    loss, rate, mixed = figure.axes
    assert loss.get_title() == "mine: loss 1.5 after 2 iterations"
    assert rate.get_title() == "learning rate 0.1 to 0.01, lambda 1e+03 to 5"
    assert list(mixed.lines[0].get_ydata()) == [1000.0, 5.0]
    plain = draw_loss("mine", {0: (2.0, 0.1, math.nan)}, Figure())
    assert len(plain.axes) == 2
    assert plain.axes[1].get_title() == "learning rate 0.1 to 0.1"


def test_targets_and_crops_are_the_feeds(double: Backend) -> None:
    seen = []
    feed = Feed(
        target=lambda batch: seen.append(batch.number) or 1 - batch.labels,
        crop=lambda images: seen.append(images.shape) or images,
    )
    trainer = _trainer(double, 0.5, feed=feed)
    trainer.step()
    assert seen == [(2, 2, 2, 1), 0]


def test_iter_size_is_one_large_batch(small_run: Path) -> None:
    """Two batches of six in one update are one batch of twelve, but for the normalisation in between (none here)."""
    with open_run(small_run, workers=0, iter_size=1) as run:
        run.trainer.net.train(False)
        trainer = run.trainer
        batches = [trainer.batches.next() for _ in range(2)]
        for batch in batches:
            trainer._pass(batch)
        added = [np.array(param.grad) for param in trainer.params if param.trainable]
        trainer.net.forget()
        whole = Batch(
            0, *(np.concatenate([getattr(b, n) for b in batches]) for n in ("images", "labels", "indices")), ()
        )
        trainer._pass(whole)
        for both, param in zip(added, [p for p in trainer.params if p.trainable], strict=True):
            np.testing.assert_allclose(both / 2, param.grad, rtol=1e-4, atol=1e-7)


def test_average_loss(small_run: Path) -> None:
    with open_run(small_run, workers=0, average_loss=3) as run:
        losses = [run.trainer.step() for _ in range(5)]
        assert run.trainer.smoothed == pytest.approx(sum(losses[-3:]) / 3)
        assert math.isfinite(run.trainer.smoothed)


def test_one_column_for_each_name(tmp_path: Path) -> None:
    """A net's outputs may be called as a run's own columns are."""
    table = tmp_path / "run.csv"
    log = Log(table=table)
    with log.running(1):
        log.iteration(
            Progress(0, 1.0, 0.1, 5.0, 0.2, {"loss": 2.0, "output loss": 3.0, "lr": 4.0, "lambda": 5.0}), show=True
        )
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert {name: float(value) for name, value in row.items() if name not in ("images_per_second", "seconds")} == {
        "iteration": 0,
        "loss": 1,
        "lr": 0.1,
        "output output loss": 2,
        "output loss": 3,
        "output lr": 4,
        "lambda": 5,
    }
