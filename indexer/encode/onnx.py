"""Any ONNX file as an encoder, through ONNX Runtime on a CPU or an NVIDIA GPU.

What the graph does not say of its input stands in a JSON file beside it, ``model.onnx.json``: see :class:`Beside`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from iconicity.indexer.encode import hub
from iconicity.indexer.encode.encoder import Setup, pick_device, unit_rows
from iconicity.indexer.encode.onnx_file import model_sha256
from iconicity.indexer.errors import InputError, ModelUnavailableError
from iconicity.indexer.spec import EncoderSpec, FloatArray
from iconicity.indexer.text import counted

if TYPE_CHECKING:
    import torch
    from PIL import Image

Three = tuple[float, float, float]
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
_SAME = 1e-5  # of unit rows: float32 sums of another order differ by less
_CUDA = "CUDAExecutionProvider"


class Beside(BaseModel):
    """What is known of a model beside its graph.

    ``size``: of the input in pixels, one number or (height, width). ``mean`` and ``std``: of pixels between 0 and 1, for
    a graph that takes floats. ``layout``: where the graph leaves the channels open. ``output``: the name of the one that
    holds the vectors, where there are several.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    mean: Three | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    fit: Literal["crop", "squash"] = "crop"
    output: str | None = None

    @classmethod
    def read(cls, path: Path) -> Beside:
        """Read the file; without a file return no facts. Raises :class:`InputError` that names the wrong field."""
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except ValidationError as e:
            first = e.errors()[0]
            raise InputError(f"{path}: {'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}") from None
        except ValueError as e:
            raise InputError(f"{path}: is not JSON ({e})") from None


@dataclass(frozen=True)
class OnnxPreprocess:
    """An RGB image to the tensor that the graph takes, (3, H, W) or (H, W, 3): resized by Pillow, floats normalised."""

    size: tuple[int, int]  # height, width
    fit: str
    interpolation: str
    layout: str
    dtype: str
    mean: Three | None
    std: Three | None

    def __call__(self, image: Image.Image) -> torch.Tensor:
        import torch
        from PIL import Image, ImageOps

        size, how = (self.size[1], self.size[0]), Image.Resampling[self.interpolation.upper()]
        fitted = image.resize(size, how) if self.fit == "squash" else ImageOps.fit(image, size, how)
        pixels: npt.NDArray[Any] = np.array(fitted)
        if self.mean is not None and self.std is not None:
            unit = pixels.astype(np.float32) / np.float32(255)
            pixels = ((unit - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)).astype(self.dtype)
        if self.layout == "NCHW":
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return torch.from_numpy(pixels)

    def facts(self) -> dict[str, Any]:
        """All facts of the preprocessing, as :class:`EncoderSpec` records them."""
        return {
            "input_size": [3, *self.size], "fit": self.fit, "crop_pct": 1.0, "interpolation": self.interpolation,
            "antialias": True, "backend": "pillow", "layout": self.layout, "dtype": self.dtype,
            "mean": None if self.mean is None else list(self.mean), "std": None if self.std is None else list(self.std),
        }  # fmt: skip


class OnnxEncoder:
    """One output of an ONNX graph with one image input, its rows normalised.

    Where the row of an image depends on the others of its batch, as with dynamic quantisation, each image is run alone,
    and ``spec.source["images_a_run"]`` says so.
    """

    def __init__(
        self,
        path: Path,
        setup: Setup,
        beside: Beside,
        source: Mapping[str, Any],
        family: str = "onnx",
        name: str | None = None,
    ) -> None:
        """``name``: of the architecture. Raises :class:`InputError` and :class:`ModelUnavailableError` naming what is wrong."""
        if setup.precision != "fp32":
            raise InputError(f"{path}: an ONNX file has a precision of its own; leave the precision at fp32")
        self._path = path
        self._session, self.device = _session(path, setup.device)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(i.name for i in inputs) or "none"
            raise ModelUnavailableError(f"{path}: an encoder has one input, the image; this has {names}")
        self._input = str(inputs[0].name)
        self._output = _output(path, [o.name for o in self._session.get_outputs()], beside.output)
        self.preprocess = _preprocess(path, inputs[0], beside, setup.fit)
        self._step = 1 if inputs[0].shape[0] == 1 else None  # images in one run; None: a whole batch
        self.spec = EncoderSpec(
            family=family,
            name=name or f"ONNX graph, output {self._output}",
            weights_sha256=model_sha256(path),
            preprocess=self.preprocess.facts(),
            pool="none",
            dim=0,
            source=source,
        )
        self._probe()

    def forward(self, batch: torch.Tensor) -> FloatArray:
        """(n, 3, H, W) or (n, H, W, 3), as ``preprocess`` makes them, to (n, dim) unit rows."""
        pixels = batch.numpy()
        step = self._step or max(1, len(pixels))
        parts = [self._run(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        return self._unit(np.concatenate(parts))

    def _unit(self, rows: FloatArray) -> FloatArray:
        import torch

        try:
            return unit_rows(torch.from_numpy(rows))
        except ModelUnavailableError as e:
            raise ModelUnavailableError(f"{self._path}: {e}") from None

    def _run(self, pixels: npt.NDArray[Any]) -> FloatArray:
        try:
            found = self._session.run([self._output], {self._input: pixels})[0]
        except Exception as e:  # the runtime's errors have no common class
            raise ModelUnavailableError(f"{self._path}: fails on its input ({hub.cause_of(e, 200)})") from None
        rows: FloatArray = np.asarray(found, np.float32)
        return rows

    def _probe(self) -> None:
        """Run one picture alone and beside another: length of the vectors, and whether company changes them.

        Raises :class:`ModelUnavailableError` for an output that is no row of numbers an image.
        """
        import torch
        from PIL import Image

        rng = np.random.default_rng(0)
        size = self.preprocess.size
        quiet, loud = (rng.integers(low, high, (*size, 3), np.uint8) for low, high in ((96, 160), (0, 256)))
        batch = torch.stack([self.preprocess(Image.fromarray(picture)) for picture in (quiet, loud)])
        alone = self._run(batch[:1].numpy())
        if alone.ndim != 2 or len(alone) != 1 or alone.size == 0:
            shape = " x ".join(map(str, alone.shape))
            raise ModelUnavailableError(
                f"{self._path}: output {self._output} of one image has the shape {shape}; an encoder gives 1 x D"
            )
        self.spec = replace(self.spec, dim=alone.shape[1])
        row = self._unit(alone)
        if self._step is None:
            both = self._run(batch.numpy())
            if len(both) != 2:
                raise ModelUnavailableError(f"{self._path}: gives {counted(len(both), 'row')} for two images")
            if float(np.abs(self._unit(both)[:1] - row).max()) > _SAME:
                self._step = 1
                self.spec = replace(self.spec, source={**self.spec.source, "images_a_run": 1})


def load(model: str | None = None, setup: Setup = Setup(), *, image_size: int | None = None) -> OnnxEncoder:
    """Load an ONNX file; ``image_size`` in pixels where the graph and the JSON file leave it open.

    Raises :class:`InputError` and :class:`ModelUnavailableError` that name the file and what is wrong with it.
    """
    if model is None:
        raise InputError("onnx: names no file; write onnx:FILE.onnx")
    path = Path(model).expanduser().resolve()
    beside = Beside.read(path.with_name(path.name + ".json"))
    source: dict[str, Any] = {"model": str(path)}
    if image_size is not None:
        source["image_size"] = image_size
        if beside.size is not None:
            raise InputError(f"{path}.json: gives the size {beside.size}, and image_size gives {image_size}; keep one")
        beside = beside.model_copy(update={"size": image_size})
    return OnnxEncoder(path, setup, beside, source)


def _session(path: Path, device: str) -> tuple[Any, str]:
    """The model ready to run, and its device."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelUnavailableError(
            f"{path}: ONNX Runtime is not installed: pip install 'iconicity[onnx]' (with CUDA: onnxruntime-gpu)"
        ) from None
    import torch

    has_cuda = _CUDA in onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if has_cuda and torch.cuda.is_available() else "cpu"
    elif device != "cpu":
        device = pick_device(device)
        if not device.startswith("cuda"):
            raise InputError(f"device {device}: ONNX Runtime runs on cpu and cuda here")
        if not has_cuda:
            raise InputError(f"device {device}: this ONNX Runtime has no CUDA; pip install onnxruntime-gpu, or use cpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()  # which OMP_NUM_THREADS sets
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take a core from other work
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu":
        index = int(device.partition(":")[2] or 0)
        providers = [(_CUDA, {"device_id": index, "use_tf32": 0}), *providers]
    if not path.is_file():
        raise ModelUnavailableError(f"{path}: no such file")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers)
    except Exception as e:  # the runtime's errors have no common class
        raise ModelUnavailableError(f"{path}: cannot be loaded as an ONNX model ({hub.cause_of(e, 200)})") from None
    if device != "cpu" and _CUDA not in session.get_providers():
        raise ModelUnavailableError(f"{path}: ONNX Runtime could not use {device}; use the device cpu")
    return session, device


def _output(path: Path, names: list[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise InputError(
            f"{path}: has the outputs {', '.join(names)}"
            + (f", no {wanted}" if wanted else "")
            + f'; name the one of the vectors as "output" in {path.name}.json'
        )
    return wanted


def _preprocess(path: Path, found: Any, beside: Beside, fit: str | None) -> OnnxPreprocess:
    """How an image becomes the graph's input ``found``, by the graph and by what is said beside it."""
    shape, dtype, file = list(found.shape), _TYPES.get(found.type), f"{path.name}.json"
    if dtype is None:
        raise ModelUnavailableError(
            f"{path}: input {found.name} is {found.type}; an encoder takes uint8 or float pixels"
        )
    if len(shape) != 4:
        raise ModelUnavailableError(
            f"{path}: input {found.name} is {_by(shape)}; an encoder takes four dimensions, images x 3 x height x width"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelUnavailableError(
            f"{path}: takes {shape[0]} images at once and no other number; export it with 1, or open"
        )
    layouts = [
        name for name, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3 or not isinstance(shape[axis], int)
    ]
    if shape[1] == 3 or shape[3] == 3:
        layouts = [name for name in layouts if shape[1 if name == "NCHW" else 3] == 3]
    if len(layouts) > 1 and beside.layout is None:
        raise InputError(
            f'{path}: input {_by(shape)} leaves open where the colours are; say "layout" in {file}, NCHW or NHWC'
        )
    layout = beside.layout or (layouts or ["NCHW"])[0]
    if layout not in layouts:
        raise ModelUnavailableError(f"{path}: input {_by(shape)} has no place for the 3 colours as {layout}")
    sides = tuple(shape[2:] if layout == "NCHW" else shape[1:3])
    size = (beside.size, beside.size) if isinstance(beside.size, int) else beside.size or sides
    if any(isinstance(own, int) and own != wanted for own, wanted in zip(sides, size, strict=True)):
        raise InputError(f"{path}: takes images of {_by(sides)} pixels, not {_by(size)}")
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(
            f'{path}: leaves the image size open; say it, onnx:FILE,image_size=224, or as "size" in {file}'
        )
    if dtype == "uint8" and (beside.mean or beside.std):
        raise InputError(
            f"{path}: takes whole numbers, so that it normalises them itself; take mean and std out of {file}"
        )
    if dtype != "uint8" and not (beside.mean and beside.std):
        raise InputError(
            f"{path}: takes floats; say in {file} how pixels between 0 and 1 are normalised, like "
            '{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
        )
    return OnnxPreprocess(size, fit or beside.fit, beside.interpolation, layout, dtype, beside.mean, beside.std)


def _by(shape: Sequence[object]) -> str:
    return " x ".join("?" if side is None else str(side) for side in shape)
