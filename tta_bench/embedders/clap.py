"""LAION-CLAP (Wu et al. 2023, arXiv 2211.06687), unfused: 512-d joint space of audio and captions, at 48 kHz.

Takes LAION's own checkpoints (HTSAT-tiny or HTSAT-base with RoBERTa) and runs them in transformers.ClapModel. Clips as LAION's code
prepares them: 16-bit quantised, repeated to 10 s and zero-padded; of a longer clip it crops 10 s at a random place, here it is the first 10 s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tta_bench.checkpoints import fitted, read_checkpoint, tensors_digest
from tta_bench.embedders.front_end import TorchLogMel
from tta_bench.embedders.protocol import Features, Floats, check_batch
from tta_bench.errors import ExtraMissing, WeightsError
from tta_bench.files import sha256_file
from tta_bench.spectrum import CLAP_48K

SAMPLES = 480_000  # 10 s
TOKENISER_FILES = ("vocab.json", "merges.txt")
_TOKENS = 77
_CLIPS_AT_ONCE = 4  # bounds the memory of activations
_HEAD_DIM = 64  # of RoBERTa
_RENAMED = (
    ("audio_branch", "audio_model.audio_encoder"), ("attn", "attention.self"), ("self.proj", "output.dense"),
    ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"), ("norm1", "layernorm_before"), ("norm2", "layernorm_after"),
    ("bn0", "batch_norm"), ("_projection.0", "_projection.linear1"), ("_projection.2", "_projection.linear2"),
)  # fmt: skip
_UNUSED = re.compile(
    r"(audio|text)_transform\.|audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\.|"
    r"\.(attn_mask|relative_position_index|position_ids|token_type_ids|num_batches_tracked)$"
)


class ClapEmbedder:
    """embeddings (1, 512) per clip and joint (B, 512), the same unit vectors; `embed_text` (B, 512).

    path: a checkpoint as LAION published it. tokeniser_folder: of RoBERTa's vocab.json and merges.txt. checkpoint: its name, part of this
    embedder's, because scores of different checkpoints are on different scales. Raises WeightsError where a file is not what it must be,
    ExtraMissing without transformers.
    """

    provides = frozenset({"embeddings", "joint"})
    sample_rate_hz = CLAP_48K.sample_rate_hz
    min_samples = 480

    def __init__(self, path: Path, tokeniser_folder: Path, device: str = "cpu", checkpoint: str = "630k-audioset-best") -> None:
        self.name = f"clap-laion-{checkpoint}"
        self.device = torch.device(device)
        self.network, weights = _load(path)
        self.network.requires_grad_(False).eval().to(self.device)
        self._tokeniser = _tokeniser(tokeniser_folder, self.network.config.text_config.vocab_size)
        text = [sha256_file(tokeniser_folder / name) for name in TOKENISER_FILES]
        self.checksum = hashlib.sha256(f"clap 1 {tensors_digest(weights)} {text}".encode()).hexdigest()
        self._log_mel = TorchLogMel(CLAP_48K, self.device)

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Features:
        """See `Embedder`. Only the first 10 s of a clip are heard."""
        check_batch(audio, lengths, self.min_samples)
        rows = []
        for start in range(0, len(audio), _CLIPS_AT_ONCE):
            part = slice(start, start + _CLIPS_AT_ONCE)
            samples = np.stack([prepared(clip[:length]) for clip, length in zip(audio[part], lengths[part], strict=True)])
            log_mel = self._log_mel(torch.from_numpy(samples).to(self.device))
            pooled = self.network.audio_model(input_features=log_mel[:, None]).pooler_output
            rows.append(_unit(self.network.audio_projection(pooled)).cpu())
        joint = torch.cat(rows).numpy()
        return Features(list(joint[:, None]), joint=joint)

    @torch.inference_mode()
    def embed_text(self, captions: Sequence[str]) -> Floats:
        """(B, 512); of a caption the first 77 tokens count."""
        tokens = self._tokeniser(list(captions), padding="max_length", truncation=True, max_length=_TOKENS, return_tensors="pt").to(self.device)
        pooled = self.network.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        return np.asarray(_unit(self.network.text_projection(pooled)).cpu().numpy())


def prepared(samples: npt.NDArray[Any]) -> Floats:
    """(T,) -> (480000,): first 10 s, 16-bit round trip (truncating, as LAION's), whole repeats, then zeros."""
    heard = np.asarray(samples[:SAMPLES], dtype=np.float32)
    heard = (np.clip(heard, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16).astype(np.float32) / np.float32(32767.0)
    repeated = np.tile(heard, SAMPLES // len(heard))
    return np.pad(repeated, (0, SAMPLES - len(repeated)))


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def _load(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """transformers.ClapModel with the weights of a LAION checkpoint, and those weights under its names."""
    try:
        from transformers import ClapConfig, ClapModel
    except (ImportError, OSError, RuntimeError) as error:
        raise ExtraMissing("transformers", "hf", str(error).strip().splitlines()[0]) from error
    tensors = from_laion(path, read_checkpoint(path))
    with torch.device("meta"):
        network = ClapModel(ClapConfig(**_shape(path, tensors)))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items() if value.is_floating_point()}
    weights = fitted(path, {name: value for name, value in tensors.items() if not name.startswith("logit_scale")} | _scales(tensors), expected)
    network.load_state_dict(weights, strict=False, assign=True)
    module: Any
    for module in network.modules():  # what is computed, not stored
        if hasattr(module, "create_relative_position_index"):
            module.relative_position_index = torch.nn.Buffer(module.create_relative_position_index())
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked = None
    text = network.text_model.embeddings
    positions = text.position_ids.shape[1]
    text.position_ids = torch.nn.Buffer(torch.arange(positions)[None])
    text.token_type_ids = torch.nn.Buffer(torch.zeros(1, positions, dtype=torch.long))
    return network, weights


def _scales(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Temperatures of the training loss: nothing that is computed here depends on them, so a file may lack them."""
    return {name: tensors.get(name, torch.zeros(())).reshape(()) for name in ("logit_scale_a", "logit_scale_t")}


def from_laion(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that matter under the names of transformers.ClapModel; qkv split in three. Raises WeightsError for another model's."""
    named: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if _UNUSED.search(name) or name.startswith(("audio_transform.", "text_transform.")):
            continue
        if ".fusion_model." in name or ".mel_conv2d." in name:
            raise WeightsError(f"{path}: is a fusion checkpoint of CLAP ({name}); take an unfused one")
        if name.startswith("text_branch."):
            new = "text_model." + name.removeprefix("text_branch.")
        else:
            new = name
            for old, other in _RENAMED:
                new = new.replace(old, other)
        if ".qkv." in new:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[new.replace("qkv", part)] = third
        else:
            named[new] = value
    if not any(name.startswith("audio_model.") for name in named):
        raise WeightsError(f"{path}: holds no audio branch of CLAP; is this the right file?")
    return named


def _shape(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Configuration of the networks, read off their weights: HTSAT-tiny or HTSAT-base, and RoBERTa."""
    audio, text = "audio_model.audio_encoder.", "text_model."
    try:
        depths = _count(tensors, rf"{audio}layers\.(\d+)\.blocks\.(\d+)\.")
        heads = [tensors[f"{audio}layers.{i}.blocks.0.attention.self.relative_position_bias_table"].shape[1] for i in range(len(depths))]
        width = tensors[f"{audio}patch_embed.proj.weight"].shape[0]
        words, hidden = tensors[f"{text}embeddings.word_embeddings.weight"].shape
        layers = _count(tensors, rf"{text}(encoder)\.layer\.(\d+)\.")[0]
        dim = tensors["audio_projection.linear2.weight"].shape[0]
        intermediate = tensors[f"{text}encoder.layer.0.intermediate.dense.weight"].shape[0]
        positions = tensors[f"{text}embeddings.position_embeddings.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path}: is no checkpoint of LAION-CLAP with HTSAT and RoBERTa ({error}); is this the right file?") from error
    return {
        "projection_dim": dim,
        "audio_config": {
            "patch_embeds_hidden_size": width, "hidden_size": width * 2 ** (len(depths) - 1), "depths": depths, "num_attention_heads": heads,
            "num_hidden_layers": len(depths), "projection_dim": dim,
        },
        "text_config": {
            "vocab_size": words, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": max(1, hidden // _HEAD_DIM),
            "intermediate_size": intermediate, "max_position_embeddings": positions, "projection_dim": dim, "layer_norm_eps": 1e-5,
        },
    }  # fmt: skip


def _count(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    """How many of the second index there are for each first one."""
    found: dict[str, int] = {}
    for name in tensors:
        if match := re.match(pattern, name):
            found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return [found[key] for key in sorted(found)]


def _tokeniser(folder: Path, words: int) -> Any:
    """RoBERTa's; raises WeightsError where a file is missing or is not that of the text branch: captions would silently become one."""
    from transformers import RobertaTokenizer

    absent = [name for name in TOKENISER_FILES if not (folder / name).is_file()]
    if absent:
        raise WeightsError(f"{folder / absent[0]}: does not exist; fetch RoBERTa's tokeniser with: tta-bench weights pull roberta-base")
    try:
        tokeniser = RobertaTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder}: is no tokeniser of RoBERTa ({error}); fetch it again with: tta-bench weights pull roberta-base") from error
    if len(tokeniser) != words:
        raise WeightsError(f"{folder}: its vocabulary has {len(tokeniser)} entries, the text branch of CLAP {words}; fetch roberta-base again")
    first, second = tokeniser(["a dog barks", "rain falls"])["input_ids"]
    if first == second:
        raise WeightsError(f"{folder}: gives two captions the same tokens; fetch roberta-base again")
    return tokeniser
