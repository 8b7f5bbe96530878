"""Tango from its own checkpoint layout, on random weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.systems.pipelines import CAPTIONS, TANGO_VAE, audioldm_names, tango_parts, write_tango
from tta_bench.errors import ConfigError, WeightsError
from tta_bench.systems import tango_files
from tta_bench.systems.diffusers import DiffusersSystem, load_diffusers
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipeline_files import pipeline_checksum
from tta_bench.systems.pipelines import load_pipeline
from tta_bench.systems.protocol import Clip

diffusers = pytest.importorskip("diffusers")

CLIPS = [Clip(f"clip{i}", caption) for i, caption in enumerate(CAPTIONS)]
MAIN, VAE = "pytorch_model_main.bin", "pytorch_model_vae.bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tango(tmp_path_factory.mktemp("tango") / "tango")


def generated(system: DiffusersSystem, clips: list[Clip] = CLIPS, steps: int = 4, scale: float = 3.0, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(system.generate(clips, steps=steps, guidance_scale=scale, seed=seed))


def test_parts_are_the_networks_that_were_written(folder: Path) -> None:
    parts, written = load_pipeline(str(folder)).parts, tango_parts()
    for name, network in written.items():
        loaded = getattr(parts, name).state_dict()
        assert loaded.keys() == network.state_dict().keys()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in network.state_dict().items() if key not in ("mean", "scale")), name
    assert not parts.unet.training
    assert parts.vae.config.scaling_factor == 0.9


def test_vae_names_are_those_that_diffusers_converts_from() -> None:
    """diffusers converts the same layout, of Stable Diffusion's checkpoints, by code of its own."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = tango_parts()["vae"]
    original = audioldm_names(vae)
    theirs = convert_ldm_vae_checkpoint({f"first_stage_model.{name}": tensor for name, tensor in original.items()}, dict(vae.config))
    ours = tango_files.vae_weights(original, 2)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor.reshape(ours[name].shape)) for name, tensor in theirs.items())


def test_schedule_and_lengths_are_tangos(folder: Path) -> None:
    pipeline = load_pipeline(str(folder))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert np.allclose(pipeline.alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=2e-5)
    assert pipeline.prediction_type == "v_prediction"
    assert pipeline.final_alpha_cumprod == pytest.approx(1 - 0.00085, rel=1e-6)
    assert pipeline.default_audio_s == 256 * 2 * 160 / 16_000
    assert pipeline.latent_shape(0.5) == (4, 25, 4)
    scheduler = pipeline.own_scheduler
    scheduler.set_timesteps(200)
    assert scheduler.timesteps[:2].tolist() + scheduler.timesteps[-1:].tolist() == [995, 990, 0]
    assert type(scheduler).__name__ == "DDPMScheduler"


@torch.no_grad()
def reference(folder: Path, clip: Clip, noise: torch.Tensor, steps: int, scale: float, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and audio: Tango's inference written out for one clip: DDPM, both branches masked, T5 states, decoding by VAE and vocoder."""
    parts = {**tango_parts()}
    from diffusers import DDPMScheduler
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny-t5")
    tokens = tokenizer([clip.caption], return_tensors="pt")
    empty = tokenizer([""], return_tensors="pt", padding="max_length", max_length=tokens.input_ids.shape[1])
    ids, mask = (torch.cat([empty[key], tokens[key]]) for key in ("input_ids", "attention_mask"))
    states = parts["text_encoder"](input_ids=ids, attention_mask=mask)[0]
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False)
    with quiet():
        scheduler.set_timesteps(steps)
        generator, z = torch.Generator().manual_seed(seed), noise
        for timestep in scheduler.timesteps:
            output = parts["unet"](torch.cat([z, z]), timestep, encoder_hidden_states=states, encoder_attention_mask=mask == 1).sample
            null, text = output.chunk(2)
            z = scheduler.step(null + scale * (text - null), timestep, z, generator=generator).prev_sample
    mel = parts["vae"].decode(z / 0.9).sample.squeeze(1)
    return z, parts["vocoder"](mel)[0].numpy()


def test_sampling_is_tangos_inference(folder: Path) -> None:
    from tta_bench.rng import stream_seed

    system = load_diffusers(str(folder), audio_s=0.5)
    alone = generated(system, CLIPS[:1])["clip0"]
    noise = torch.from_numpy(system.noise("clip0", 0))[None]
    latents, audio = reference(folder, CLIPS[0], noise, 4, 3.0, stream_seed(0, "sampling", "clip0") % 2**63)
    assert (system.latents(CLIPS[:1], steps=4, guidance_scale=3.0, seed=0) - latents).abs().max() < 1e-5
    assert np.abs(alone - audio[:8000]).max() < 1e-4  # the random vocoder enlarges rounding
    assert alone.std() > 0.01


@pytest.mark.parametrize("sampler", ["own", "ddim", "dpmpp_2m"])
def test_audio_depends_on_clip_and_seed_not_on_the_batch(folder: Path, sampler: str) -> None:
    system = load_diffusers(str(folder), sampler=sampler, audio_s=0.5)
    together = generated(system)
    for clip_id, samples in generated(load_diffusers(str(folder), sampler=sampler, audio_s=0.5, batch_size=1), CLIPS[::-1]).items():
        assert np.abs(samples - together[clip_id]).max() < 1e-3
    assert np.abs(together["clip0"] - generated(system, seed=1)["clip0"]).max() > 1e-2
    assert system.evaluations(4, 3.0) == 8


def test_samplers_differ(folder: Path) -> None:
    made = [generated(load_diffusers(str(folder), sampler=name, audio_s=0.5), CLIPS[:1])["clip0"] for name in ("own", "ddim", "dpmpp_2m")]
    assert np.abs(made[0] - made[1]).max() > 1e-3
    assert np.abs(made[1] - made[2]).max() > 1e-3


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def _text(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))

    return change


def _tensors(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        known = torch.load(folder / name, weights_only=True)
        torch.save(change(known), folder / name)

    return apply


def _shape(**changes: Any) -> Callable[[Path], None]:
    return _text("vae_config.json", ddconfig={**TANGO_VAE["ddconfig"], **changes})  # type: ignore[dict-item]


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a file is gone": (lambda folder: (folder / VAE).unlink(), f"is a Tango checkpoint without {VAE}"),
    "cut off": (
        lambda folder: (folder / MAIN).write_bytes((folder / MAIN).read_bytes()[:5000]),
        f"{MAIN}: cannot be read as a file of weights alone",
    ),
    "a web page": (lambda folder: (folder / MAIN).write_text("<html>"), f"{MAIN}: cannot be read as a file of weights alone"),
    "a list": (lambda folder: torch.save([1, 2], folder / MAIN), f"{MAIN}: does not hold tensors by name"),
    "a tensor is gone": (
        _tensors(MAIN, lambda known: {key: value for key, value in known.items() if key != "unet.conv_in.weight"}),
        "conv_in.weight is missing",
    ),
    "a tensor too many": (_tensors(MAIN, lambda known: {**known, "unet.more": torch.zeros(1)}), "more is of another model"),
    "another shape": (_tensors(MAIN, lambda known: {**known, "unet.conv_in.bias": torch.zeros(3)}), "weights of another shape"),
    "no vocoder": (_tensors(VAE, lambda known: {key: value for key, value in known.items() if key != "vocoder.conv_pre.weight"}), "holds no vocoder"),
    "no embedding": (
        _tensors(MAIN, lambda known: {key: value for key, value in known.items() if "shared" not in key and "embed_tokens" not in key}),
        "text_encoder.shared.weight is missing",
    ),
    "another encoder": (_text("main_config.json", text_encoder_name="openai/clip"), "'openai/clip' is no T5"),
    "an encoder that is not at hand": (
        _text("main_config.json", text_encoder_name="google/other-t5"),
        "vocabulary of google/other-t5 is not at hand",
    ),
    "another scheduler": (_text("main_config.json", scheduler_name="me/mine"), "scheduler 'me/mine' is not known"),
    "a UNet of another origin": (_text("main_config.json", unet_model_config_path=None), "began as Stable Diffusion"),
    "an unknown UNet": (_text("main_config.json", unet_model_config_path="configs/xl.json"), "xl.json: is missing; copy configs/xl.json"),
    "time downsampled": (_shape(downsample_time=True), "not AudioLDM's plain one"),
    "no channels": (_text("vae_config.json", ddconfig={"double_z": True, "attn_resolutions": [], "z_channels": 4}), "'ch_mult' is missing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_folders_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGED[name]
    folder = write_tango(tmp_path / "tango")
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        load_pipeline(str(folder))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped: bool, tmp_path: Path) -> None:
    folder, marker = write_tango(tmp_path / "tango"), tmp_path / "run"
    if zipped:
        torch.save({"unet.conv_in.weight": Bomb(marker)}, folder / MAIN)
    else:
        (folder / MAIN).write_bytes(pickle.dumps({"unet.conv_in.weight": Bomb(marker)}))
    with pytest.raises(WeightsError, match="nothing in it was run"):
        load_pipeline(str(folder))
    assert not marker.exists()


def test_the_official_unet_is_known(tmp_path: Path) -> None:
    """866 million parameters, as Tango's own."""
    folder = write_tango(tmp_path / "tango")
    _text("main_config.json", unet_model_config_path="configs/diffusion_model_config.json")(folder)
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**tango_files.unet_config(folder))
    assert 8.6e8 < sum(parameter.numel() for parameter in unet.parameters()) < 8.7e8
    assert unet.config.cross_attention_dim == 1024


def test_checksum_and_length(tmp_path: Path) -> None:
    folder = write_tango(tmp_path / "tango")
    first = pipeline_checksum(folder)
    assert first == pipeline_checksum(folder)
    _text("vae_config.json", scale_factor=0.8)(folder)
    assert pipeline_checksum(folder) != first
    with pytest.raises(ConfigError, match="shorter than one latent frame"):
        load_diffusers(str(folder), audio_s=0.001)
