"""Small ONNX models made on the spot: a pooled picture times a matrix, with the faults and forms that tests ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, DIM = 8, 6
NORMALISED = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
Shape = Sequence[int | str]


def projection(channels: int = 3 * SIDE * SIDE) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((channels, DIM)).astype(np.float32)


def save(path: Path, *, elem: int = TensorProto.FLOAT, shape: Shape = ("n", 3, SIDE, SIDE), unit: bool = False,
         nodes: Sequence[Any] | None = None, inputs: int = 1, outputs: Sequence[str] = ("rows",), rank: int = 2,
         said: dict[str, Any] | None = None) -> Path:  # fmt: skip
    """A model that multiplies all pixels by :func:`projection`; ``nodes`` replace how "flat" becomes "rows".

    ``said`` is written beside the model.
    """
    images = [helper.make_tensor_value_info(f"image{i or ''}", elem, list(shape)) for i in range(inputs)]
    steps = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        *(nodes or [helper.make_node("MatMul", ["flat", "weights"], ["rows"])]),
    ]
    if unit:
        steps[-1].output[0] = "raw"
        steps.append(helper.make_node("LpNormalization", ["raw"], ["rows"], axis=1, p=2))
    found = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [None] * rank) for o in outputs]
    graph = helper.make_graph(steps, "small", images, found, [numpy_helper.from_array(projection(), "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    if said is not None:
        path.with_name(path.name + ".json").write_text(json.dumps(said))
    return path


def quantised() -> list[Any]:
    """Steps from "flat" to "rows" whose scale is that of the whole batch, as dynamic quantisation makes them."""
    return [
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["coarse"]),
        helper.make_node("MatMul", ["coarse", "weights"], ["rows"]),
    ]
