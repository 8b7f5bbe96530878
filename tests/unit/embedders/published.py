"""Random weights in the file layouts in which VGGish, PANNs, RoBERTa's tokeniser and LAION-CLAP are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tta_bench.embedders.panns import FRONT_ENDS

_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]


def random_like(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """He-scaled weights, so that deep networks neither fade nor blow up; batch norms near the identity."""
    noise = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=noise)
        if name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif len(shape) > 1:
            values *= (2.0 / float(np.prod(shape[1:]))) ** 0.5
        elif name.endswith("weight"):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.1
        made[name] = values
    return made


def vggish_file(path: Path, seed: int = 0) -> Path:
    """As torchvggish's vggish-10086976.pth."""
    convolutions = {0: (64, 1), 3: (128, 64), 6: (256, 128), 8: (256, 256), 11: (512, 256), 13: (512, 512)}
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (channels, before) in convolutions.items():
        shapes |= {f"features.{number}.weight": (channels, before, 3, 3), f"features.{number}.bias": (channels,)}
    for number, (rows, columns) in {0: (4096, 12_288), 2: (4096, 4096), 4: (128, 4096)}.items():
        shapes |= {f"embeddings.{number}.weight": (rows, columns), f"embeddings.{number}.bias": (rows,)}
    torch.save(random_like(shapes, seed), path)
    return path


def panns_tensors(name: str, seed: int = 0) -> dict[str, Tensor]:
    """State of PANNs' Cnn14 with its front end."""
    front_end = FRONT_ENDS[name]
    shapes: dict[str, tuple[int, ...]] = _batch_norm("bn0", 64)
    before = 1
    for number, channels in enumerate((64, 128, 256, 512, 1024, 2048), 1):
        block = f"conv_block{number}"
        shapes |= {f"{block}.conv1.weight": (channels, before, 3, 3), f"{block}.conv2.weight": (channels, channels, 3, 3)}
        shapes |= _batch_norm(f"{block}.bn1", channels) | _batch_norm(f"{block}.bn2", channels)
        before = channels
    shapes |= {"fc1.weight": (2048, 2048), "fc1.bias": (2048,), "fc_audioset.weight": (527, 2048), "fc_audioset.bias": (527,)}
    bins, taps = front_end.n_fft // 2 + 1, np.arange(front_end.n_fft)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(bins), taps) / front_end.n_fft) * front_end.hann
    made = random_like(shapes, seed)
    for part, values in (("conv_real", turns.real), ("conv_imag", turns.imag)):
        made[f"spectrogram_extractor.stft.{part}.weight"] = torch.from_numpy(values[:, None].astype(np.float32))
    made["logmel_extractor.melW"] = torch.from_numpy(front_end.matrix.astype(np.float32))
    for key in [key for key in made if key.endswith("running_mean")]:
        made[key.replace("running_mean", "num_batches_tracked")] = torch.tensor(100)
    made["bn0.running_mean"], made["bn0.running_var"] = torch.full((64,), -40.0), torch.full((64,), 400.0)
    return made


def _batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def panns_file(path: Path, name: str = "panns-cnn14-16k", seed: int = 0) -> Path:
    """As Cnn14_16k_mAP=0.438.pth and Cnn14_mAP=0.431.pth: the state lies under "model"."""
    torch.save({"iteration": 600_000, "model": panns_tensors(name, seed)}, path)
    return path


def roberta_files(folder: Path) -> int:
    """vocab.json and merges.txt of a byte-level tokeniser in RoBERTa's layout; its number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(byte) for byte in _BYTES] + [chr(256 + i) for i in range(256 - len(_BYTES))]
    merges = [("Ġ", "a"), ("i", "n"), ("e", "r"), ("o", "r"), ("a", "r"), ("o", "n"), ("Ġ", "t"), ("s", "t"), ("e", "n"), ("i", "s")]
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters, *("".join(pair) for pair in merges), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return len(words)


def clap_network(words: int, seed: int = 0, width: int = 96, depths: tuple[int, ...] = (2, 2, 6, 2), text_layers: int = 1) -> Any:
    """transformers.ClapModel, random, with HTSAT as it is and a short RoBERTa."""
    from transformers import ClapConfig, ClapModel

    audio = {"patch_embeds_hidden_size": width, "hidden_size": 8 * width, "depths": depths}
    text = {"vocab_size": words, "num_hidden_layers": text_layers, "layer_norm_eps": 1e-5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClapModel(ClapConfig(audio_config=audio, text_config=text)).eval()
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.full_like(value, -30.0 if name.endswith("mean") else 300.0))
        elif "embeddings.weight" in name or "dense.weight" in name or "query" in name:
            value.mul_(3.0)  # away from the initial weights, under which all captions sound alike
    return network


def laion_names(network: Any) -> dict[str, Tensor]:
    """The state of a ClapModel under LAION's names, and what else is in LAION's files."""
    state = dict(network.state_dict())
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        new = (
            name.replace("text_model.", "text_branch.")
            .replace("_projection.linear1", "_projection.0")
            .replace("_projection.linear2", "_projection.2")
        )
        if name.startswith("audio_model."):
            new = new.replace("audio_model.audio_encoder", "audio_branch").replace("batch_norm", "bn0")
            new = new.replace("attention.output.dense", "attn.proj").replace("attention.self", "attn")
            new = new.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
            new = new.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        if ".attn.query." in new:
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            named[new.replace("query", "qkv")] = torch.cat(parts)
        elif ".attn.key." not in new and ".attn.value." not in new and "token_type_ids" not in new:
            named[new] = value
    named["audio_branch.logmel_extractor.melW"] = torch.zeros(513, 64)
    named["audio_branch.tscam_conv.weight"] = torch.zeros(527, 768, 2, 3)
    named["audio_branch.head.weight"] = torch.zeros(527, 527)
    named["audio_transform.sequential.0.weight"] = torch.zeros(512, 512)
    named["text_transform.sequential.0.weight"] = torch.zeros(512, 512)
    return {f"module.{name}": value for name, value in named.items()}


def clap_file(path: Path, network: Any) -> Path:
    """As 630k-audioset-best.pt: names begin with "module.", the state lies under "state_dict"."""
    torch.save({"epoch": 15, "name": "CLAP", "state_dict": laion_names(network)}, path)
    return path
