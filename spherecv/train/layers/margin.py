# ruff: noqa: D102 - these methods are documented where their interface is
"""MarginInnerProduct: the layer of the SphereFace fork."""

from __future__ import annotations

from collections.abc import Sequence

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.losses.angular import LambdaSchedule, MarginProduct, check_labels, normalise_rows
from spherecv.train.params import BlobOrder, Shape


class MarginInnerProduct(Layer):
    """Logits with an angular margin at the label, and lambda as an optional second top.

    The weight's rows are normalised in place before each forward pass. t is counted up before it is used: the first
    pass has t = `iteration` + 1. Without labels (outside training) it is a plain product with unit rows.
    """

    takes = (2, 2)
    gives = (1, 2)

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.margin_inner_product_param
        if len(shapes) != 2 or len(shapes[0]) != 2:
            raise self.spec.mistake("needs two bottoms: features of shape (images, width), and labels")
        if settings.axis != 1:
            raise self.spec.unsupported("only axis: 1 is known")
        if settings.num_output < 1:
            raise self.spec.mistake("num_output must be at least 1")
        count, width = shapes[0]
        self.classes = settings.num_output
        self.schedule = LambdaSchedule(
            settings.base, settings.gamma, settings.power, settings.lambda_min, settings.iteration
        )
        self.t = int(settings.iteration)
        self.lam = float("nan")
        order = BlobOrder.plain((self.classes, width))
        self.weight = self._param(0, settings.weight_filler, order)
        self.margin = int(settings.type) + 1
        self.product = MarginProduct(
            self.backend, self.margin, gradient="exact" if self.context.exact_margin else "released"
        )
        return [(count, self.classes), ()][: len(self.spec.tops)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x, labels = bottoms[0], self.backend.whole(bottoms[1])
        check_labels(self.backend.numpy(labels), self.classes, str(self.spec))
        if self.context.train:
            self.t += 1
        self.lam = self.schedule(max(self.t, 1))
        self.weight.data = normalise_rows(self.backend, self.weight.data)
        logits = self.product.forward(x, self.weight.data, labels, self.lam)
        return [logits, self.backend.asarray(self.lam)][: len(self.spec.tops)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dx, dweight = self.product.backward(grads[0])
        if self.weight.trainable:
            self.weight.add_grad(self.backend, dweight)
        return [dx if needed[0] else None, None]

    def state(self) -> dict[str, float]:
        return {"t": self.t}

    def restore(self, state: dict[str, float]) -> None:
        self.t = int(state["t"])
