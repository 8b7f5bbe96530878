"""Random weights in the places and layouts where the reference packages look for the published ones.

FOLDER/hub/{harritaylor_torchvggish_master, checkpoints/vggish-10086976.pth, Cnn14_16k_mAP%3D0.438.pth, ...}   torch.hub's folder
FOLDER/huggingface/hub/models--roberta-base/{refs/main, snapshots/...}, and bert-base-uncased, facebook/bart-base
FOLDER/home                                                                                                     stands for the user's
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.unit.embedders.published import panns_file, roberta_files, vggish_file

HUB_CODE = Path(__file__).parent / "hub"
REPOSITORY = "harritaylor_torchvggish_master"
CLAP_FILES = {"HTSAT-tiny": "630k-audioset-best.pt", "HTSAT-base": "music_audioset_epoch_15_esc_90.14.pt"}
PANNS_FILES = {"panns-cnn14-16k": "Cnn14_16k_mAP%3D0.438.pth", "panns-cnn14-32k": "Cnn14_mAP%3D0.431.pth"}
ROBERTA_WORDS = 50_265
_REVISION = "0" * 40


def environment(folder: Path) -> dict[str, str]:
    """Variables that make the packages look into `folder`, and never at the network; to be set before they are imported."""
    shim = str(Path(__file__).parent / "shim")
    return {
        "HOME": str(folder / "home"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "TORCH_HOME": str(folder),
        "MPLBACKEND": "Agg",
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONPATH": os.pathsep.join([shim, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def make_world(folder: Path) -> None:
    """Everything but the CLAP checkpoints, which need laion_clap to be imported. Under the variables of `environment`."""
    (folder / "home").mkdir()
    hub = folder / "hub"
    (hub / "checkpoints").mkdir(parents=True)
    shutil.copytree(HUB_CODE, hub / REPOSITORY)
    vggish_file(hub / "checkpoints" / "vggish-10086976.pth", seed=1)
    for seed, (name, file) in enumerate(PANNS_FILES.items(), 2):
        panns_file(hub / file, name, seed)
    _make_tokenisers(folder / "huggingface" / "hub")


def _make_tokenisers(cache: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    roberta = _snapshot(cache, "roberta-base")
    roberta_files(roberta)
    words = json.loads((roberta / "vocab.json").read_text())
    mask = words.pop("<mask>")
    words |= {f"unused{i}": i for i in range(mask, ROBERTA_WORDS - 1)} | {"<mask>": ROBERTA_WORDS - 1}
    (roberta / "vocab.json").write_text(json.dumps(words))
    config = RobertaConfig(vocab_size=ROBERTA_WORDS, num_hidden_layers=1, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    RobertaModel(config).save_pretrained(roberta)
    bert = _snapshot(cache, "bert-base-uncased")
    (bert / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]) + "\n")
    (bert / "config.json").write_text(json.dumps({"model_type": "bert"}))
    bart = _snapshot(cache, "facebook/bart-base")
    roberta_files(bart)
    (bart / "config.json").write_text(json.dumps({"model_type": "bart"}))


def _snapshot(cache: Path, name: str) -> Path:
    """Folder of a repository's files in the layout of huggingface_hub's cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / _REVISION
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_REVISION)
    return snapshot


def tokeniser_folder(folder: Path) -> Path:
    """RoBERTa's vocab.json and merges.txt of a world."""
    return folder / "huggingface" / "hub" / "models--roberta-base" / "snapshots" / _REVISION


def make_clap(path: Path, audio_model: str, seed: int = 7) -> None:
    """A checkpoint as LAION publishes them, of laion_clap's own network with random weights; names begin with "module."."""
    import laion_clap

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel=audio_model).model
    state = dict(_scaled(network.state_dict()))
    state["text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save({"epoch": 15, "name": "CLAP", "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)


def _scaled(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Away from initial weights, under which all clips and all captions are alike."""
    for name, value in state.items():
        if name == "audio_branch.bn0.running_mean":
            yield name, torch.full_like(value, -30.0)
        elif name == "audio_branch.bn0.running_var":
            yield name, torch.full_like(value, 300.0)
        elif name.startswith(("text_branch", "audio_branch.layers", "audio_branch.patch_embed")) and value.dim() > 1 and name.endswith("weight"):
            yield name, 3.0 * value
        else:
            yield name, value
