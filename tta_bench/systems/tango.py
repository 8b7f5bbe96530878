"""Tango: AudioLDM's latents, and a UNet that attends to FLAN-T5 states (Ghosal et al. 2023), from a checkpoint of its own layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tta_bench.errors import WeightsError
from tta_bench.files import write_text
from tta_bench.systems import tango_files
from tta_bench.systems.audioldm import MelPipeline
from tta_bench.systems.hf import hf_part, one_line, quiet
from tta_bench.systems.pipeline import Conditioning, Request
from tta_bench.systems.pipeline_files import TANGO, components, read_json

_TIED = ("shared.weight", "encoder.embed_tokens.weight")  # one tensor, under either name or both
_UNUSED = ("mean", "scale")  # of a vocoder that does not normalise
_SAFE = {"use_safetensors": True}
_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast")
_TEXT_FILES = ["config.json", "tokenizer*", "spiece.model", "special_tokens_map.json"]


@dataclass
class TangoParts:
    """Named as diffusers' pipelines name theirs: the fields are the names of components."""

    unet: Any
    vae: Any
    vocoder: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any

    @property
    def components(self) -> dict[str, Any]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: str | torch.device) -> None:
        """Move all networks."""
        for part in self.components.values():
            if isinstance(part, nn.Module):
                part.to(device)


class Tango(MelPipeline):
    """Sampled as Tango's own `inference` does: DDPM by default, which draws noise at every step, here from each clip's generator."""

    kind: ClassVar[str] = "tango"

    @property
    def default_audio_s(self) -> float:
        """256 latent frames, 10.24 s, the only length that Tango makes."""
        return float(256 * self.factor * self.hop / self.sample_rate_hz)

    def conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """encoder_hidden_states (B, S, D) of T5, encoder_attention_mask (B, S), true for tokens."""
        return self._encoded(captions, padding=True, max_length=self.parts.tokenizer.model_max_length)

    def null_conditioning(self, captions: Sequence[str], audio_s: float) -> Conditioning:
        """The same of the empty text, padded to the captions' length."""
        length = self.parts.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt").input_ids.shape[1]
        return self._encoded([""] * len(captions), padding="max_length", max_length=length)

    @torch.no_grad()
    def _encoded(self, texts: Sequence[str], **padding: Any) -> Conditioning:
        tokens = self.parts.tokenizer(list(texts), truncation=True, return_tensors="pt", **padding).to(self.device)
        states = self.parts.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return {"encoder_hidden_states": states.to(self.dtype), "encoder_attention_mask": tokens.attention_mask == 1}

    def denoise(self, z: Tensor, timestep: Tensor, conditioning: Conditioning, denoiser: nn.Module | None = None) -> Tensor:
        """(B, C, L, F)"""
        output: Tensor = (denoiser or self.denoiser)(z, timestep, **conditioning).sample
        return output

    @torch.no_grad()
    def sample(self, captions: Sequence[str], noise: Tensor, request: Request) -> Tensor:
        """(B, C, L, F); both guidance branches in one call of the UNet, as everywhere in diffusers."""
        scheduler, guided = request.scheduler, request.guidance_scale > 1.0
        texts = self.conditioning(captions, request.audio_s)
        if guided:
            empty = self.null_conditioning(captions, request.audio_s)
            texts = {key: torch.cat([empty[key], value]) for key, value in texts.items()}
        with quiet():
            scheduler.set_timesteps(request.steps, device=noise.device)
            z: Tensor = noise * scheduler.init_noise_sigma
            for timestep in scheduler.timesteps:
                known = scheduler.scale_model_input(torch.cat([z, z]) if guided else z, timestep)
                output = self.denoise(known, timestep, texts)
                if guided:
                    null, text = output.chunk(2)
                    output = null + request.guidance_scale * (text - null)
                z = scheduler.step(output, timestep, z, generator=request.generators).prev_sample
        return z

    def save(self, folder: Path, denoiser: nn.Module, scheduler: Any) -> None:
        """See `Pipeline`. No pipeline of diffusers is Tango, but diffusers and transformers load every part."""
        parts = replace(self.parts, unet=denoiser, scheduler=scheduler).components
        index: dict[str, Any] = {"_class_name": TANGO}
        for name, part in parts.items():
            part.save_pretrained(folder / name)
            index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
        write_text(folder / "model_index.json", json.dumps(index, indent=2) + "\n")


def load_tango(folder: Path, dtype: torch.dtype) -> TangoParts:
    """All parts of the checkpoint, or of what `Tango.save` wrote, in `folder`, in `dtype`.

    Raises WeightsError for files that are missing, damaged or of another model.
    """
    if (folder / "model_index.json").exists():
        return TangoParts(**{name: _saved(folder / name, *kind, dtype) for name, kind in components(folder).items()})
    main_path, vae_path = folder / "pytorch_model_main.bin", folder / "pytorch_model_vae.bin"
    main, sound = tango_files.read_pickle(main_path), tango_files.read_pickle(vae_path)
    text_place = _text_folder(folder)
    unet = hf_part("diffusers", "UNet2DConditionModel")(**tango_files.unet_config(folder))
    shape = tango_files.vae_config(folder)
    vae = hf_part("diffusers", "AutoencoderKL")(**shape)
    vocoder_shape = hf_part("transformers", "SpeechT5HifiGanConfig")(**tango_files.vocoder_config(sound, vae_path))
    vocoder = hf_part("transformers", "SpeechT5HifiGan")(vocoder_shape)
    text = hf_part("transformers", "T5EncoderModel")(hf_part("transformers", "T5Config").from_pretrained(text_place, local_files_only=True))
    vae_weights = tango_files.vae_weights(sound, len(shape["block_out_channels"]))
    return TangoParts(
        tango_files.fill(unet, _below(main, "unet."), main_path).to(dtype),
        tango_files.fill(vae, vae_weights, vae_path).to(dtype),
        tango_files.fill(vocoder, tango_files.vocoder_weights(sound), vae_path, _UNUSED).to(dtype),
        _filled_text(text, _below(main, "text_encoder."), main_path).to(dtype),
        hf_part("transformers", "AutoTokenizer").from_pretrained(text_place, local_files_only=True),
        tango_scheduler(folder),
    )


def _saved(folder: Path, library: str, name: str, dtype: torch.dtype) -> Any:
    loaded = hf_part(library, name).from_pretrained(folder, local_files_only=True, **({} if name.endswith(_WITHOUT_WEIGHTS) else _SAFE))
    return loaded.to(dtype).eval() if isinstance(loaded, nn.Module) else loaded


def tango_scheduler(folder: Path) -> Any:
    """DDPM over the noise schedule of Stable Diffusion 2.1, v-prediction."""
    return hf_part("diffusers", "DDPMScheduler").from_config(tango_files.scheduler_config(folder))


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _filled_text(text: nn.Module, weights: dict[str, Tensor], path: Path) -> nn.Module:
    """The embedding has to be there under one of its two names."""
    embedding = next((weights[name] for name in _TIED if name in weights), None)
    if embedding is None:
        raise WeightsError(f"{path}: text_encoder.{_TIED[0]} is missing; is this the right file?")
    return tango_files.fill(text, {**weights, **dict.fromkeys(_TIED, embedding)}, path)


def _text_folder(folder: Path) -> Path:
    """Configuration and vocabulary of the text encoder, whose weights the checkpoint holds: a folder inside it, or of the hub.

    Raises WeightsError where it is no T5 or is not at hand.
    """
    name = str(read_json(folder / "main_config.json").get("text_encoder_name"))
    if "t5" not in name.lower():
        raise WeightsError(f"{folder / 'main_config.json'}: text encoder {name!r} is no T5; Tango with other encoders is not known")
    for place in (folder / name, folder / Path(name).name, Path(name)):
        if place.is_dir():
            return place
    try:
        return Path(hf_part("huggingface_hub", "snapshot_download")(name, allow_patterns=_TEXT_FILES))
    except Exception as error:  # the hub's client raises errors of several libraries
        where = folder / Path(name).name
        raise WeightsError(
            f"{folder}: the vocabulary of {name} is not at hand ({one_line(error)}); put config.json and the tokenizer's files into {where}"
        ) from error
