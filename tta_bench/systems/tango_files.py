"""Tango's checkpoint folder: configurations, and weights from its own names to those of diffusers and transformers.

Source: declare-lab/tango, tango.py, models.py and audioldm/{variational_autoencoder,hifigan}; its VAE and vocoder are AudioLDM's.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tta_bench.errors import WeightsError
from tta_bench.systems.pipeline_files import read_json

# configs/diffusion_model_config.json of Tango's repository, to which its checkpoints refer and which they do not hold
UNET: dict[str, Any] = {
    "sample_size": [32, 2], "in_channels": 8, "out_channels": 8, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True, "upcast_attention": True,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
_UNET_NAME = "diffusion_model_config.json"
# The scheduler of stabilityai/stable-diffusion-2-1, with the timesteps of the DDPM sampler that Tango carries: it knows no offset
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "prediction_type": "v_prediction",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 0,
}  # fmt: skip
_SCHEDULER_NAME = "stabilityai/stable-diffusion-2-1"
# audioldm/hifigan/utilities.py, HIFIGAN_16K_64; the numbers of channels and mels are read from the weights
VOCODER: dict[str, Any] = {
    "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]], "sampling_rate": 16_000, "normalize_before": False,
}  # fmt: skip


def unet_config(folder: Path) -> dict[str, Any]:
    """Of the UNet: a file that the folder holds under the name that main_config.json gives, or Tango's own."""
    main = read_json(folder / "main_config.json")
    name = main.get("unet_model_config_path")
    if not isinstance(name, str):
        raise WeightsError(f"{folder / 'main_config.json'}: unet_model_config_path is not given; UNets that began as Stable Diffusion are not known")
    found = next((path for path in (folder / name, folder / Path(name).name) if path.is_file()), None)
    if found is None and Path(name).name != _UNET_NAME:
        raise WeightsError(f"{folder / Path(name).name}: is missing; copy {name} of the model's repository there")
    known = read_json(found) if found else UNET
    return {key: value for key, value in known.items() if not key.startswith("_")}


def scheduler_config(folder: Path) -> dict[str, Any]:
    """Of the scheduler: scheduler/scheduler_config.json where the folder holds one, or Stable Diffusion 2.1's, which Tango names."""
    if (folder / "scheduler" / "scheduler_config.json").is_file():
        return {**read_json(folder / "scheduler" / "scheduler_config.json"), "steps_offset": 0}
    name = read_json(folder / "main_config.json").get("scheduler_name")
    if name != _SCHEDULER_NAME:
        raise WeightsError(
            f"{folder / 'main_config.json'}: scheduler {name!r} is not known; put its scheduler_config.json into {folder / 'scheduler'}"
        )
    return SCHEDULER


def vae_config(folder: Path) -> dict[str, Any]:
    """vae_config.json in the words of diffusers' AutoencoderKL. Raises WeightsError for a key that is missing and for variants of AudioLDM's VAE."""
    path = folder / "vae_config.json"
    known = read_json(path)
    try:
        shape = known["ddconfig"]
        plain = known.get("subband", 1) == 1 and shape["double_z"] and not shape.get("downsample_time") and not shape["attn_resolutions"]
        if not plain or known["embed_dim"] != shape["z_channels"]:
            raise WeightsError(f"{path}: describes a VAE that is not AudioLDM's plain one (subbands, attention, or time downsampled otherwise)")
        channels = [shape["ch"] * factor for factor in shape["ch_mult"]]
        return {
            "in_channels": shape["in_channels"], "out_channels": shape["out_ch"], "latent_channels": shape["z_channels"],
            "block_out_channels": channels, "layers_per_block": shape["num_res_blocks"], "scaling_factor": float(known.get("scale_factor", 1.0)),
            "down_block_types": ["DownEncoderBlock2D"] * len(channels), "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        }  # fmt: skip
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error} is missing or no number; copy the file again") from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .bin file; code in it is never run. Raises WeightsError where it is damaged or holds anything but tensors."""
    try:
        known = _load(path)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: cannot be read as a file of weights alone ({reason}); nothing in it was run; fetch it again") from error
    if not isinstance(known, dict) or not all(isinstance(value, Tensor) for value in known.values()):
        raise WeightsError(f"{path}: does not hold tensors by name; is this the right file?")
    return known


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of protocols that may not be understood: those that are not are errors
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


_VAE_NAMES = [  # names of AudioLDM's modules, and of diffusers'
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
    (r"\.down\.(\d+)\.downsample\.conv\.", r".down_blocks.\1.downsamplers.0.conv."),
    (r"\.up\.(\d+)\.block\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
    (r"\.up\.(\d+)\.upsample\.conv\.", r".up_blocks.\1.upsamplers.0.conv."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
]


def vae_weights(known: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """AudioLDM's VAE in diffusers' names. blocks: resolutions; AudioLDM counts those of the decoder from the finest, diffusers from the coarsest."""
    made = {}
    for name, tensor in known.items():
        if name.startswith(("vocoder.", "loss.")):
            continue
        for pattern, replacement in _VAE_NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\.up_blocks\.(\d+)\.", lambda found: f".up_blocks.{blocks - 1 - int(found[1])}.", name)
        made[name] = tensor[:, :, 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor  # a convolution of size 1 is a linear map
    return made


def vocoder_weights(known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AudioLDM's HiFi-GAN in transformers' names."""
    return {name.removeprefix("vocoder.").replace("ups.", "upsampler."): tensor for name, tensor in known.items() if name.startswith("vocoder.")}


def vocoder_config(known: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Of the vocoder whose weights `known` holds. Raises WeightsError where it holds none."""
    first = known.get("vocoder.conv_pre.weight")
    if first is None:
        raise WeightsError(f"{path}: holds no vocoder (vocoder.conv_pre.weight); is this the right file?")
    return {**VOCODER, "model_in_dim": first.shape[1], "upsample_initial_channel": first.shape[0]}


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path, spare: tuple[str, ...] = ()) -> nn.Module:
    """`network` with `weights`, all of them and no others but those in `spare`. Raises WeightsError naming the first that does not fit."""
    try:
        found = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path}: holds weights of another shape ({' '.join(str(error).split())[:200]})") from error
    missing = [name for name in found.missing_keys if name not in spare]
    extra = [name for name in found.unexpected_keys if name not in spare]
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"{extra[0]} is of another model"
        raise WeightsError(f"{path}: {what}; is this the right file?")
    return network.eval()
