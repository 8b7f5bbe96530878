"""Loading pretrained pipelines: AudioLDM, AudioLDM 2 and Stable Audio in the folders of diffusers, Tango in its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tta_bench.errors import ConfigError, WeightsError
from tta_bench.systems.audioldm import AudioLDM
from tta_bench.systems.audioldm2 import AudioLDM2
from tta_bench.systems.half import keep_float32_outside
from tta_bench.systems.hf import hf_part, missing, one_line, quiet
from tta_bench.systems.pipeline import Conditioning, Pipeline, Request
from tta_bench.systems.pipeline_files import STOCK, components, pipeline_folder, pipeline_kind
from tta_bench.systems.stable_audio import StableAudio
from tta_bench.systems.tango import Tango, load_tango, tango_scheduler

__all__ = ["PIPELINES", "Conditioning", "Options", "Pipeline", "Request", "load_pipeline", "load_scheduler"]

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Options:
    """How a pipeline is to run. compile (torch.compile of the denoiser), channels_last and fp16 need CUDA."""

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    channels_last: bool = False

    def check(self, name: str) -> None:
        """Raises ConfigError for what the device cannot do."""
        asked = {"compile = true": self.compile, "channels_last = true": self.channels_last, 'precision = "fp16"': self.precision == "fp16"}
        wanted = next((key for key, value in asked.items() if value), None)
        if wanted and self.device != "cuda":
            raise ConfigError(f'{name}: {wanted} needs device = "cuda"; remove it, or run on a GPU')


def load_pipeline(place: str, options: Options | None = None) -> Pipeline:
    """The pipeline in a folder or of a hub name, ready to be used.

    Raises ExtraMissing without diffusers or transformers, ConfigError for options that the device cannot serve, WeightsError for files that are
    missing, damaged, pickled, or of no pipeline that is known here.
    """
    options = options or Options()
    options.check(place)
    folder = pipeline_folder(place)
    kind = pipeline_kind(folder)
    try:
        with quiet():
            parts = (load_tango if kind == "tango" else _stock)(folder, DTYPES[options.precision])
            pipeline = PIPELINES[kind](parts, place)
            _place(pipeline, options)
    except ImportError as error:  # of what diffusers needs for single parts, as torchsde for Stable Audio's scheduler
        raise missing("diffusers", error) from error
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: cannot be loaded ({type(error).__name__}: {one_line(error)}); fetch or copy it again") from error
    return pipeline


def _stock(folder: Path, dtype: torch.dtype) -> Any:
    """With safetensors and local files only; classes are looked up in diffusers, never in the folder."""
    name = next(name for name, kind in STOCK.items() if kind == pipeline_kind(folder))
    parts = hf_part("diffusers", name).from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=dtype)
    parts.set_progress_bar_config(disable=True)
    for component, network in parts.components.items():
        if isinstance(network, nn.Module):
            _refuse_random(network, folder / component)
    return parts


def _refuse_random(network: nn.Module, folder: Path) -> None:
    """Raises WeightsError for parameters that no file holds: both libraries then draw them at random, and say so in a log line only.

    Files of older versions call some of them differently; as many names that the network does not have are taken for those.
    """
    stored = {name for path in folder.glob("*.safetensors") for name in _names(path)}
    parameters = dict(network.named_parameters(remove_duplicate=False))
    tied = {id(parameters[name]) for name in stored & parameters.keys()}
    missing = [name for name, parameter in parameters.items() if name not in stored and id(parameter) not in tied]
    if len(missing) > len(stored - network.state_dict().keys()):
        raise WeightsError(f"{folder}: {missing[0]} is in none of its files; fetch or copy the folder again")


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _place(pipeline: Pipeline, options: Options) -> None:
    pipeline.parts.to(options.device)
    keep_float32_outside(pipeline.denoiser)
    if options.channels_last:
        for part in (pipeline.denoiser, pipeline.parts.vae):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.compile:
        pipeline.denoiser.compile()


def load_scheduler(place: str) -> Any:
    """The own scheduler of a pipeline, without its networks."""
    folder = pipeline_folder(place)
    if not (folder / "model_index.json").exists():
        return tango_scheduler(folder)
    name = components(folder).get("scheduler", ("", "DDIMScheduler"))[1]
    try:
        with quiet():
            return hf_part("diffusers", name).from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    except ImportError as error:
        raise missing("diffusers", error) from error
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{folder / 'scheduler'}: cannot be loaded ({one_line(error)}); fetch or copy it again") from error


PIPELINES: dict[str, Callable[[Any, str], Pipeline]] = {"audioldm": AudioLDM, "audioldm2": AudioLDM2, "stable_audio": StableAudio, "tango": Tango}
