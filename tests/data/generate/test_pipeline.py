"""Pipelines are told by their files; nothing that comes with them is run, and each fault is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_hub import local_hub
from tiny_pipeline import change_config, tiny_pipeline

from iconicity.data.generate.make import Maker
from iconicity.data.generate.options import GenerateOptions
from iconicity.data.generate.pipeline import TextToImage, arguments, find_model, model_here
from iconicity.data.generate.plan import Planned, Settings
from iconicity.indexer.errors import IconicityError, InputError, ModelUnavailableError

INDEX = "model_index.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model") / "tiny")


def image(size: str | None = None) -> Planned:
    settings = Settings(
        pipeline="P", scheduler="S", weights_sha256="w", config_sha256="c", precision="fp32", steps=1, guidance=None, size=size
    )  # fmt: skip
    return Planned(concept="c", variant="v", prompt="the wave", negative="", seed=0, settings=settings)


def test_hashes_are_of_what_is_loaded(model: Path, tmp_path: Path) -> None:
    found = find_model(str(model))
    assert (found.name, found.revision, found.pipeline, found.scheduler) == (
        "tiny", None, "StableDiffusionPipeline", "PNDMScheduler",
    )  # fmt: skip
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "README.md").write_text("x")
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")  # a variant, which is not loaded
    same = find_model(str(copy))
    assert (same.weights_sha256, same.config_sha256) == (found.weights_sha256, found.config_sha256)
    change_config(copy, "scheduler/scheduler_config.json", beta_end=0.5)
    other = find_model(str(copy))
    assert other.weights_sha256 == found.weights_sha256 and other.config_sha256 != found.config_sha256


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def pickled(folder: Path, trace: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": Evil(trace)}, folder / "unet" / "diffusion_pytorch_model.bin")


def code(name: str, **index: Any) -> Callable[[Path, Path], None]:
    def write(folder: Path, trace: Path) -> None:
        (folder / name).write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
        change_config(folder, INDEX, **index)

    return write


def config(name: str, **values: Any) -> Callable[[Path, Path], None]:
    return lambda folder, _: change_config(folder, name, **values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "unet: has no weights as safetensors, the only form that is read"),
        (code("unet/diffusers.py"), "unet: holds code (diffusers.py), which is not run"),
        (code("mine.py", _class_name=["mine", "Mine"]), "is no text-to-image pipeline"),
        (code("unet/mine.py", unet=["mine", "Mine"]), "its part 'unet' is of a library that is not loaded here"),
        (config(INDEX, unet=["os", "system"]), "its part 'unet' is of a library that is not loaded here"),
        (config(INDEX, unet=["diffusers"]), "its part 'unet' is of a library"),
        (config(INDEX, unet=["diffusers", "NoSuchModel"]), "cannot be loaded"),
        (
            config(INDEX, **{"../../unet": ["diffusers", "UNet2DConditionModel"]}),
            "its part '../../unet' is of a library",
        ),
        (config(INDEX, _class_name="DiTPipeline"), "'DiTPipeline' is no text-to-image pipeline"),
        (config(INDEX, _class_name="torch"), "'torch' is no text-to-image pipeline"),
        (config("text_encoder/config.json", auto_map={"AutoModel": "m.M"}), "config.json names code of its own"),
        (lambda folder, _: (folder / INDEX).write_text("[]"), "no pipeline of diffusers"),
        (lambda folder, _: (folder / INDEX).unlink(), "no pipeline of diffusers"),
        (lambda folder, _: (folder / "vae" / "config.json").write_text("{"), "vae: config.json is not JSON"),
        (lambda folder, _: shutil.rmtree(folder / "vae"), "vae: no such folder, or it is empty"),
        (
            lambda folder, _: (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"x" * 99),
            "cannot be loaded",
        ),
        (
            lambda folder, _: (folder / "vae" / "x.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}})
            ),
            "diffusion_pytorch_model-00001-of-00002.safetensors is missing",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line_and_nothing_of_it_runs(
    model: Path, tmp_path: Path, spoil: Callable[[Path, Path], object], message: str
) -> None:
    folder, trace = shutil.copytree(model, tmp_path / "model"), tmp_path / "trace"
    spoil(folder, trace)
    with pytest.raises(ModelUnavailableError) as e:
        TextToImage(find_model(str(folder)), "fp32", "cpu")
    assert message in str(e.value) and "\n" not in str(e.value) and not trace.exists()


def test_a_model_that_is_not_here_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelUnavailableError, match=r"no/such/folder: no such folder, and not a hub id"):
        find_model("no/such/folder")
    with local_hub(monkeypatch, tmp_path / "hub", lambda handler: handler.send_error(404)):
        assert model_here("somebody/nothing") is None
        with pytest.raises(ModelUnavailableError) as e:
            find_model("somebody/nothing", "v1")
    assert str(e.value).startswith("somebody/nothing at revision v1: not in the local cache, and the model hub did not")
    assert "\n" not in str(e.value)


def test_a_model_of_the_hub_is_taken_from_the_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(model, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    with local_hub(monkeypatch, tmp_path / "hub", lambda handler: handler.send_error(500)):
        found = find_model("somebody/tiny")
        assert (found.name, found.revision) == ("somebody/tiny", commit)
        assert found.weights_sha256 == find_model(str(model)).weights_sha256
        assert find_model("somebody/tiny", commit) == found
        (
            repo / "snapshots" / commit / "unet" / "diffusion_pytorch_model.safetensors"
        ).unlink()  # a download that stopped
        assert model_here("somebody/tiny") is None


def test_without_its_packages_one_line_names_them(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ModelUnavailableError, match=r"not installed: pip install 'iconicity\[generate\]'$"):
        find_model(str(model))


def test_options_that_a_pipeline_does_not_take_are_refused(model: Path) -> None:
    found = find_model(str(model))
    assert arguments(found, GenerateOptions(), True) == (50, 7.5)
    assert arguments(found, GenerateOptions(steps=3, guidance=0.0), True) == (3, 0.0)
    flux = replace(found, pipeline="FluxPipeline")  # which reads negative prompts where true_cfg_scale is more than 1
    assert arguments(flux, GenerateOptions(), False)[1] == 3.5
    with pytest.raises(InputError, match="FluxPipeline takes no negative prompt; leave it out"):
        arguments(flux, GenerateOptions(), True)
    bare = replace(found, pipeline="KandinskyPriorPipeline")  # makes no picture of a size
    with pytest.raises(InputError, match="takes no `size`; leave it out"):
        arguments(bare, GenerateOptions(size=(8, 8)), False)
    with pytest.raises(InputError, match=r"revision` v1: .* is a folder"):
        find_model(str(model), "v1")


def test_what_a_pipeline_refuses_is_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = TextToImage(find_model(str(model)), "fp32", "cpu")
    with pytest.raises(
        ModelUnavailableError, match=r"tiny: its pipeline refuses \(.*divisible by 8.*\); ask for other"
    ):
        loaded.draw([image("12x12")])
    ((drawn, flagged),) = loaded.draw([image("32x16")])
    assert drawn.shape == (16, 32, 3) and flagged is None

    def broken(error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(loaded, "_pipeline", fail)

    for error in (
        torch.OutOfMemoryError("x"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("can't allocate memory"),
    ):
        broken(error)
        with pytest.raises(torch.OutOfMemoryError):
            loaded.draw([image()])


def test_a_batch_that_moves_the_last_bit_is_found_out_and_not_used(model: Path) -> None:
    """On a processor that is so for this pipeline, by 1e-6, which most pixels do not show."""
    loaded = TextToImage(find_model(str(model)), "fp32", "cpu")
    images = [image("32x32").model_copy(update={"seed": seed}) for seed in range(5)]
    alone = [numbers for each in images for numbers, _ in loaded.draw([each])]
    together = [numbers for numbers, _ in loaded.draw(images[:4])]
    maker = Maker(loaded, 4)
    made = [numbers for batch in maker.batches(images) for numbers, _ in maker.draw(batch)]
    assert all(np.array_equal(a, b) for a, b in zip(made, alone, strict=True))
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(together, alone, strict=False))
    if not all(np.array_equal(a, b) for a, b in zip(together, alone, strict=False)):
        assert maker.notes[0] == "images are not made 4 at once: their last bits would change"


def test_numbers_that_are_not_finite_are_no_picture(model: Path) -> None:
    loaded = TextToImage(find_model(str(model)), "fp32", "cpu")
    with torch.no_grad():
        for each in loaded._pipeline.vae.parameters():
            each.fill_(float("nan"))
    with pytest.raises(IconicityError, match="not finite"):
        loaded.draw([image()])


def test_an_image_depends_on_no_other_and_on_no_global_state(model: Path) -> None:
    loaded = TextToImage(find_model(str(model)), "fp32", "cpu")
    ((first, _),) = loaded.draw([image()])
    state = torch.get_rng_state()
    torch.manual_seed(5)
    loaded.draw([image().model_copy(update={"seed": 7})])
    ((again, _),) = loaded.draw([image()])
    assert (first == again).all()
    torch.set_rng_state(state)
