"""Pretrained pipelines against the stock pipelines of diffusers, on random weights."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.systems.pipelines import CAPTIONS, audioldm2, ddim, stable_audio, write_audioldm
from tta_bench.errors import ConfigError, ExtraMissing, InputError, WeightsError
from tta_bench.harness.generate import StagedSystem
from tta_bench.systems.audioldm_mel import level_of_training, log_mel
from tta_bench.systems.diffusers import DiffusersSystem, load_diffusers
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipeline_files import pipeline_checksum
from tta_bench.systems.pipelines import Options, load_pipeline
from tta_bench.systems.protocol import Clip
from tta_bench.systems.schedulers import scheduler_of

diffusers = pytest.importorskip("diffusers")

CLIPS = [Clip(f"clip{i}", caption) for i, caption in enumerate(CAPTIONS)]
LENGTHS = {"audioldm": 0.1, "audioldm2": 0.1, "stable_audio": 1.0}
NEEDS_TORCHSDE = pytest.mark.skipif(importlib.util.find_spec("torchsde") is None, reason="Stable Audio's scheduler needs torchsde")
KINDS = ["audioldm", "audioldm2", pytest.param("stable_audio", marks=NEEDS_TORCHSDE)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind's tiny pipeline, written once."""
    root = tmp_path_factory.mktemp("pipelines")

    def write(kind: str) -> Path:
        if not (root / kind).exists():
            with quiet():
                if kind == "audioldm":
                    write_audioldm(root / kind)
                else:
                    made = audioldm2(root / "words") if kind == "audioldm2" else stable_audio()
                    made.save_pretrained(root / kind, safe_serialization=True)
        return root / kind

    return write


def system_of(folder: Path, kind: str = "audioldm", **changes: Any) -> DiffusersSystem:
    return load_diffusers(str(folder), audio_s=LENGTHS[kind], **changes)


def generated(system: DiffusersSystem, clips: list[Clip] = CLIPS, steps: int = 4, scale: float = 3.0, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(system.generate(clips, steps=steps, guidance_scale=scale, seed=seed))


def by_hand(folder: Path, kind: str, system: DiffusersSystem, clip: Clip, steps: int, scale: float, scheduler: Any = None) -> np.ndarray:
    """What a user of diffusers gets for one clip from the same noise."""
    stock = {"audioldm": "AudioLDMPipeline", "audioldm2": "AudioLDM2Pipeline", "stable_audio": "StableAudioPipeline"}[kind]
    with quiet():
        pipe = getattr(diffusers, stock).from_pretrained(folder, local_files_only=True)
        pipe.scheduler = scheduler(pipe.scheduler.config) if scheduler else pipe.scheduler
        length = {"audio_end_in_s" if kind == "stable_audio" else "audio_length_in_s": system.audio_s}
        noise = torch.from_numpy(system.noise(clip.clip_id, 0))[None]
        seeds = [torch.Generator().manual_seed(seed) for seed in drawn_seeds(system, clip)]
        made = pipe(clip.caption, num_inference_steps=steps, guidance_scale=scale, latents=noise, generator=seeds, output_type="np", **length).audios
    return made[0].mean(axis=0) if kind == "stable_audio" else made[0]


def drawn_seeds(system: DiffusersSystem, clip: Clip) -> list[int]:
    """Seeds of the generators that the system hands to its pipeline."""
    seen: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(system.pipeline, name)

        def sample(self, captions: Any, noise: Any, request: Any) -> Any:
            seen.extend(generator.initial_seed() for generator in request.generators)
            return noise

    DiffusersSystem("spy", Spy(), system.scheduler, system.audio_s).latents([clip], steps=1, guidance_scale=1.0, seed=0)  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_audio_is_that_of_the_stock_pipeline(kind: str, scale: float, written: Callable[[str], Path]) -> None:
    system = system_of(written(kind), kind)
    assert isinstance(system, StagedSystem)
    alone = generated(system, CLIPS[1:2], scale=scale)["clip1"]
    assert alone.shape == (int(system.audio_s * system.sample_rate_hz),)
    assert alone.std() > 0.01
    assert np.abs(alone - by_hand(written(kind), kind, system, CLIPS[1], 4, scale)).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_audio_depends_on_clip_and_seed_not_on_batch_or_order(kind: str, written: Callable[[str], Path]) -> None:
    system = system_of(written(kind), kind)
    together = generated(system)
    assert list(together) == [clip.clip_id for clip in CLIPS]
    for clip_id, samples in generated(system_of(written(kind), kind, batch_size=2), CLIPS[::-1]).items():
        assert np.abs(samples - together[clip_id]).max() < 1e-3 * np.abs(samples).max()
    assert np.abs(together["clip0"] - generated(system, seed=1)["clip0"]).max() > 1e-3
    same_caption = generated(system, [Clip("other", CAPTIONS[0])])["other"]
    assert np.abs(together["clip0"] - same_caption).max() > 1e-3


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_samplers_are_those_of_diffusers_with_the_pipelines_configuration(name: str, written: Callable[[str], Path]) -> None:
    folder = written("audioldm")
    sampler = {"DDIMScheduler": "ddim", "DPMSolverMultistepScheduler": "dpmpp_2m"}[name]
    system = system_of(folder, sampler=sampler)
    audio = generated(system, CLIPS[:1])["clip0"]
    ends = {"final_sigmas_type": "sigma_min", "euler_at_final": True} if sampler == "dpmpp_2m" else {}

    def scheduler(config: Any) -> Any:
        return getattr(diffusers, name).from_config({**config, "timestep_spacing": "trailing", "_use_default_values": [], **ends})

    assert np.abs(audio - by_hand(folder, "audioldm", system, CLIPS[0], 4, 3.0, scheduler)).max() < 1e-6
    own = generated(system_of(folder), CLIPS[:1])["clip0"]
    assert np.abs(audio - own).max() > 1e-3  # its own is DDIM over another grid


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("published", [False, True])
def test_samplers_solve_one_equation_from_the_same_start_to_the_same_end(to_one: bool, prediction: str, published: bool, tmp_path: Path) -> None:
    """On Gaussian data the exact network is known: both tend to what DDIM of 1000 steps finds, whatever keys a configuration leaves out."""
    own = ddim(set_alpha_to_one=to_one, prediction_type=prediction)
    if published:
        kept = ("beta_start", "beta_end", "beta_schedule", "clip_sample", "set_alpha_to_one", "steps_offset", "prediction_type")
        (tmp_path / "scheduler_config.json").write_text(json.dumps({key: own.config[key] for key in kept}))
        own = type(own).from_pretrained(tmp_path)
    z = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def sampled(sampler: str, steps: int) -> torch.Tensor:
        scheduler, x = scheduler_of(own, sampler, "x"), z
        with quiet():
            scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps:
            squared = scheduler.alphas_cumprod[timestep].double()
            mean = squared.sqrt() * 0.25 * x / (0.25 * squared + 1 - squared)  # of data with standard deviation 0.5
            eps = (x - squared.sqrt() * mean) / (1 - squared).sqrt()
            x = scheduler.step(eps if prediction == "epsilon" else squared.sqrt() * eps - (1 - squared).sqrt() * mean, timestep, x).prev_sample
        return x

    exact = sampled("ddim", 1000)
    errors = {(name, steps): float((sampled(name, steps) - exact).std()) for name in ("ddim", "dpmpp_2m") for steps in (25, 100)}
    assert errors["ddim", 100] < 0.3 * errors["ddim", 25] < 0.03
    assert errors["dpmpp_2m", 25] < 0.75 * errors["ddim", 25]
    assert errors["dpmpp_2m", 100] < 0.5 * errors["ddim", 100]


def test_one_loaded_pipeline_serves_several_samplers(written: Callable[[str], Path]) -> None:
    pipeline = load_pipeline(str(written("audioldm")))
    from tta_bench.systems.diffusers import system_of as of

    systems = {sampler: of(pipeline, "x", sampler, 0.1) for sampler in ("own", "dpmpp_2m")}
    first = {sampler: generated(system) for sampler, system in systems.items()}
    again = {sampler: generated(systems[sampler]) for sampler in ("dpmpp_2m", "own")}
    assert all(np.array_equal(first[sampler][clip_id], samples) for sampler in again for clip_id, samples in again[sampler].items())


OWN = {
    "DDIMScheduler": ({}, 4, 4), "PNDMScheduler": ({"skip_prk_steps": True}, 4, 5), "HeunDiscreteScheduler": ({}, 4, 7),
    "DPMSolverMultistepScheduler": ({}, 4, 4), "EulerAncestralDiscreteScheduler": ({}, 3, 3),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("name", OWN)
def test_evaluations_are_what_the_denoiser_is_asked_for(name: str, scale: float, tmp_path: Path) -> None:
    changes, steps, calls = OWN[name]
    folder = write_audioldm(tmp_path / "pipeline")
    facts = {key: ddim().config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    with quiet():
        getattr(diffusers, name)(**facts, **changes).save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", name]}))
    system, evaluated = system_of(folder), 0

    def count(module: Any, arguments: Any, keywords: Any = None) -> None:
        nonlocal evaluated
        evaluated += len(arguments[0])

    system.pipeline.denoiser.register_forward_pre_hook(count)
    made = generated(system, CLIPS[:2], steps=steps, scale=scale)
    assert evaluated == 2 * system.evaluations(steps, scale) == 2 * calls * (2 if scale > 1 else 1)
    assert np.array_equal(made["clip0"], generated(system, CLIPS[:2], steps=steps, scale=scale)["clip0"])  # Euler's noise too


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_are_those_that_sampling_uses(kind: str, written: Callable[[str], Path]) -> None:
    """One step of the stock pipeline calls the denoiser with exactly null_conditioning and conditioning."""
    pipeline = load_pipeline(str(written(kind)))
    system = system_of(written(kind), kind)
    calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    system.pipeline.denoiser.register_forward_hook(
        lambda module, arguments, output: calls.append((*arguments[:2], output[0] if isinstance(output, tuple) else output.sample))
    )
    system.latents(CLIPS[:1], steps=1, guidance_scale=3.0, seed=0)
    z, timestep, output = calls[0]
    captions = CAPTIONS[:1]
    with torch.inference_mode():
        parts = (pipeline.null_conditioning(captions, system.audio_s), pipeline.conditioning(captions, system.audio_s))
        mine = torch.cat([pipeline.denoise(z[:1], timestep, part) for part in parts])
    assert (mine - output).abs().max() < 1e-5 * max(1.0, float(output.abs().max()))


def test_encode_and_decode_know_the_latents_shape_and_scale(written: Callable[[str], Path]) -> None:
    pipeline = load_pipeline(str(written("audioldm")))
    audio = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1600)).astype(np.float32))
    latents = pipeline.encode(audio)
    assert latents.shape == (2, *pipeline.latent_shape(0.1))
    with torch.inference_mode():
        raw = pipeline.parts.vae.encode(log_mel(audio, 8, 4)[:, None]).latent_dist.mode()
        stock = pipeline.parts.mel_spectrogram_to_waveform(pipeline.parts.decode_latents(latents))
    assert torch.allclose(latents, 0.9 * raw, atol=1e-6)
    assert torch.allclose(pipeline.decode(latents, 0.1), stock, atol=1e-6)
    assert pipeline.alphas_cumprod.dtype == torch.float64
    betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    assert np.allclose(pipeline.alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=2e-5)
    assert pipeline.final_alpha_cumprod == pytest.approx(1 - 0.0015, rel=1e-6)
    assert pipeline.prediction_type == "epsilon"


def test_log_mel_is_that_of_audioldm() -> None:
    """The DFT as AudioLDM's own code does it, a convolution with a windowed Fourier basis over reflected audio."""
    audio = np.random.default_rng(1).uniform(-1, 1, 1600)
    window = np.hanning(1025)[:-1]
    padded = np.pad(audio, 512, mode="reflect")
    frames = np.stack([padded[i * 160 : i * 160 + 1024] * window for i in range(10)])
    magnitude = np.abs(np.fft.rfft(frames))
    from tta_bench.spectrum import mel_matrix_slaney

    expected = np.log(np.maximum(magnitude @ mel_matrix_slaney(64, 1024, 16_000, 0.0, 8000.0), 1e-5))
    assert np.allclose(log_mel(torch.from_numpy(audio)[None])[0].numpy(), expected, atol=1e-3)
    assert log_mel(torch.zeros(1, 163_840)).shape == (1, 1024, 64)
    assert log_mel(torch.zeros(1, 1600)).max().item() == pytest.approx(np.log(1e-5))
    with pytest.raises(InputError, match="512 samples are too few"):
        log_mel(torch.zeros(1, 512), hop=4)
    levelled = level_of_training(torch.tensor([[0.0, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0], [0.3, 0.1, 0.0, 0.0]]))
    assert torch.allclose(levelled, torch.tensor([[-0.5, -1 / 6, 0.5, 1 / 6], [0, 0, 0, 0], [0.5, -0.5, 0, 0]]), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_of_the_brain_kind_works_on_the_cpu(kind: str, written: Callable[[str], Path]) -> None:
    system = system_of(written(kind), kind, options=Options(precision="bf16"))
    assert system.pipeline.dtype == torch.bfloat16
    made = generated(system, CLIPS[:1])["clip0"]
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.abs(made - generated(system_of(written(kind), kind), CLIPS[:1])["clip0"]).max() > 1e-5


@pytest.mark.parametrize("kind", ["audioldm", "audioldm2"])
def test_only_networks_run_in_half_precision(kind: str, written: Callable[[str], Path]) -> None:
    """A denoiser that says the same in either: what is left of a difference is the rounding of the sampler's own state."""
    found, said = [], set()
    for precision in ("fp32", "bf16"):
        system = system_of(written(kind), kind, options=Options(precision=precision))  # type: ignore[arg-type]
        for parameter in system.pipeline.denoiser.parameters():
            parameter.data.zero_()
        system.pipeline.denoiser.register_forward_hook(lambda module, arguments, output: said.add(output[0].dtype))
        found.append(system.latents(CLIPS[:1], steps=100, guidance_scale=3.0, seed=0))
        system.decode(found[-1])
    assert said == {found[1].dtype} == {torch.float32}
    assert torch.equal(found[0], found[1])


def test_requests_that_cannot_be(written: Callable[[str], Path]) -> None:
    system = system_of(written("audioldm"))
    for changes, kind, message in (
        ({"scale": 0.5}, ConfigError, "guide above 1 only"),
        ({"steps": 2.5}, ConfigError, "steps = 2.5 must be a whole number"),
        ({"steps": 2000}, ConfigError, "steps = 2000"),
        ({"clips": [Clip("a", " ")]}, InputError, "of clip a is empty"),
        ({"clips": [CLIPS[0], CLIPS[0]]}, InputError, "'clip0' is there twice"),
    ):
        with pytest.raises(kind, match=message):
            generated(system, **changes)


@NEEDS_TORCHSDE
def test_stable_audio_has_its_own_sampler_only(written: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="'ddim' does not fit the noise schedule of its CosineDPMSolverMultistepScheduler"):
        system_of(written("stable_audio"), "stable_audio", sampler="ddim")
    with pytest.raises(ConfigError, match="its longest is 2 s"):
        load_diffusers(str(written("stable_audio")), audio_s=3.0)
    with pytest.raises(ConfigError, match="has no variance-preserving noise schedule"):
        _ = load_pipeline(str(written("stable_audio"))).alphas_cumprod


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _without(name: str) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file({key: value for key, value in load_file(path).items() if key != name}, path)

    return drop


def _index(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


UNET = "unet/diffusion_pytorch_model.safetensors"
DAMAGED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut off": (UNET, _truncate, "cannot be loaded"),
    "a tensor is gone": (UNET, _without("conv_in.weight"), "unet: conv_in.weight is in none of its files"),
    "weights are gone": (UNET, Path.unlink, "cannot be loaded"),
    "pickled": (
        UNET,
        lambda path: path.rename(path.with_suffix(".bin")),
        r"pickled weights \(.bin\) only; if you trust them, save the pipeline once",
    ),
    "no index": ("model_index.json", Path.unlink, "is no pipeline"),
    "an index that is no JSON": ("model_index.json", lambda path: path.write_text("{"), "cannot be read as JSON"),
    "another pipeline": ("model_index.json", _index(_class_name="StableDiffusionPipeline"), "StableDiffusionPipeline is not known here"),
    "code of its own": ("model_index.json", _index(unet=["mine", "Net"]), "unet is of 'mine', and code of a pipeline's own is not run"),
    "a component without a folder": ("model_index.json", _index(extra=["diffusers", "UNet2DConditionModel"]), "extra: is missing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_folders_that_cannot_be_trusted(name: str, tmp_path: Path) -> None:
    file, damage, message = DAMAGED[name]
    folder = write_audioldm(tmp_path / "pipeline")
    damage(folder / file)
    with pytest.raises(WeightsError, match=message):
        load_pipeline(str(folder))


def test_nothing_in_a_folder_is_run(tmp_path: Path) -> None:
    folder = write_audioldm(tmp_path / "pipeline")
    marker = tmp_path / "run"
    for place in (folder / "pipeline.py", folder / "unet" / "mine.py", folder / "mine.py"):
        place.write_text(f"open({str(marker)!r}, 'w').write('run')\nclass Net: pass\n")
    load_pipeline(str(folder))
    _index(unet=["mine", "Net"])(folder / "model_index.json")
    with pytest.raises(WeightsError):
        load_pipeline(str(folder))
    assert not marker.exists()


def test_checksum_is_of_content(tmp_path: Path) -> None:
    folder = write_audioldm(tmp_path / "pipeline")
    first = pipeline_checksum(folder)
    (folder / "README.md").write_text("words")
    assert pipeline_checksum(write_audioldm(tmp_path / "again")) == first == pipeline_checksum(folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.0195", "0.0196"))
    assert pipeline_checksum(folder) != first


def test_hub_names_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="nobody/nothing: is not in the Hugging Face cache, and HF_HUB_OFFLINE is set"):
        load_pipeline("nobody/nothing")
    with pytest.raises(ConfigError, match="is no folder here and no hub name"):
        load_pipeline("a/b/c")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--me--tiny" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    write_audioldm(snapshot)
    (tmp_path / "models--me--tiny" / "refs").mkdir()
    (tmp_path / "models--me--tiny" / "refs" / "main").write_text("0" * 40)
    found = importlib.import_module("huggingface_hub").snapshot_download
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: found(name, cache_dir=str(tmp_path), **options))
    assert load_pipeline("me/tiny").kind == "audioldm"


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
@pytest.mark.parametrize("error", [ImportError("gone"), OSError("libc10_cuda.so: cannot open"), RuntimeError("operator torchvision::nms")])
def test_without_the_packages_or_with_broken_ones(package: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_audioldm(tmp_path / "pipeline")
    real = importlib.import_module

    def refuse(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == package:
            raise error
        return real(name, *rest)

    monkeypatch.setattr("tta_bench.systems.hf.importlib.import_module", refuse)
    with pytest.raises(ExtraMissing, match=rf"{package}.* cannot be used \({error}\); install it with: pip install 'tta-bench\[hf\]'"):
        load_pipeline(str(folder))


@pytest.mark.skipif(importlib.util.find_spec("torchsde") is not None, reason="torchsde is here")
def test_stable_audio_without_torchsde_says_so(written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="torchsde"):
        stable_audio()
    folder = write_audioldm(tmp_path / "pipeline")
    _index(scheduler=["diffusers", "CosineDPMSolverMultistepScheduler"])(folder / "model_index.json")
    with pytest.raises(ExtraMissing, match="torchsde"):
        load_pipeline(str(folder))


def test_neither_package_is_loaded_before_it_is_needed() -> None:
    import subprocess

    code = "import sys, tta_bench.systems.diffusers, tta_bench.harness.sweep; print({'diffusers', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
