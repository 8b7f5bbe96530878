"""The folder of a pretrained pipeline: where it is, what it holds, and its content's checksum. Nothing in it is ever run."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from tta_bench.errors import ConfigError, WeightsError
from tta_bench.files import digest, sha256_file
from tta_bench.systems.hf import hf_part, one_line

TANGO = "TangoPipeline"  # in model_index.json of a Tango that was saved in the parts of diffusers; there is no such class
STOCK = {"AudioLDMPipeline": "audioldm", "AudioLDM2Pipeline": "audioldm2", "StableAudioPipeline": "stable_audio"}
TANGO_FILES = ("main_config.json", "vae_config.json", "stft_config.json", "pytorch_model_main.bin", "pytorch_model_vae.bin")
_LIBRARIES = ("diffusers", "transformers", "audioldm2", "stable_audio")  # the last two are modules of diffusers' pipelines
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".bin")
_CONFIGS = ["*.json"]
_STOCK_PATTERNS = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]


CARD = "tta_bench.json"  # of a student that `tta-bench distill` made


def pipeline_card(folder: Path) -> dict[str, Any]:
    """What the card in a student's folder says; empty where there is none."""
    return read_json(folder / CARD) if (folder / CARD).exists() else {}


def is_hub_name(place: str) -> bool:
    """Whether `place` is no folder here and may be "owner/name" on the Hugging Face hub."""
    return not Path(place).exists() and bool(_HUB_NAME.fullmatch(place))


def pipeline_folder(place: str) -> Path:
    """The folder `place`, or where the hub's cache holds the pipeline of that name, fetched once if it is not there and the network may be used.

    Raises ConfigError for a path without a folder, WeightsError for a pipeline that cannot be fetched.
    """
    if Path(place).is_dir():
        return Path(place)
    if not is_hub_name(place):
        raise ConfigError(f"pipeline = {place!r} is no folder here and no hub name (owner/name); check the path")
    found = _cached(place)
    return found if found and _is_whole(found) else _fetched(place)


def pipeline_kind(folder: Path) -> str:
    """ "audioldm", "audioldm2", "stable_audio" or "tango", by what the folder holds.

    Raises WeightsError for another folder, for components of other libraries than diffusers and transformers, and for pickled weights.
    """
    if not (folder / "model_index.json").exists():
        missing = [name for name in TANGO_FILES if not (folder / name).exists()]
        if len(missing) == len(TANGO_FILES):
            raise WeightsError(f"{folder}: is no pipeline: it has neither model_index.json (diffusers) nor main_config.json (Tango)")
        if missing:
            raise WeightsError(f"{folder}: is a Tango checkpoint without {missing[0]}; copy that file too")
        return "tango"
    index = read_json(folder / "model_index.json")
    kind = {**STOCK, TANGO: "tango"}.get(str(index.get("_class_name")))
    if kind is None:
        raise WeightsError(f"{folder / 'model_index.json'}: {index.get('_class_name')} is not known here; known: {', '.join(STOCK)} and Tango")
    for name, (library, _) in components(folder).items():
        if library not in _LIBRARIES:
            raise WeightsError(f"{folder / 'model_index.json'}: {name} is of {library!r}, and code of a pipeline's own is not run")
        _check_component(folder, name)
    return kind


def components(folder: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each component that model_index.json names; those that are null are left out."""
    index = read_json(folder / "model_index.json")
    pairs = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list) and len(value) == 2}
    return {name: (str(value[0]), str(value[1])) for name, value in pairs.items() if value[0] is not None}


def _check_component(folder: Path, name: str) -> None:
    part = folder / name
    if not part.is_dir():
        raise WeightsError(f"{part}: is missing; model_index.json names it")
    if any(part.glob("*.bin")) and not any(part.glob("*.safetensors")):
        raise WeightsError(
            f"{part}: holds pickled weights (.bin) only; if you trust them, save the pipeline once as safetensors: python -c "
            f"\"from diffusers import DiffusionPipeline as P; P.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
        )


def pipeline_checksum(folder: Path) -> str:
    """Fingerprint of the names and contents of all files that decide what the pipeline in `folder` makes."""
    kind = pipeline_kind(folder)
    return digest([kind, *([str(path.relative_to(folder)), _sha256(path)] for path in pipeline_files(folder))])


def pipeline_files(folder: Path) -> list[Path]:
    """Files of the pipeline in `folder`: configurations, vocabularies, weights."""
    if (folder / "model_index.json").exists():
        parts = [path for name in components(folder) for path in (folder / name).rglob("*")]
        found = [folder / "model_index.json", *parts]
    else:
        found = [path for path in folder.rglob("*") if path.suffix != ".bin" or path.name in TANGO_FILES or path.parent != folder]
    return sorted(path for path in found if path.suffix in _SUFFIXES and path.is_file())


def read_json(path: Path) -> dict[str, Any]:
    """Raises WeightsError where it is missing or no JSON object."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); copy or fetch it again") from error
    if not isinstance(known, dict):
        raise WeightsError(f"{path}: holds no JSON object; copy or fetch it again")
    return known


def _sha256(path: Path) -> str:
    facts = path.stat()
    return _hashed(path.resolve(), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    """Gigabytes are read once in a process, unless size or time say that they are others now."""
    return sha256_file(path)


def _is_whole(folder: Path) -> bool:
    try:
        pipeline_kind(folder)
    except WeightsError:
        return False
    return True


def _cached(name: str) -> Path | None:
    try:
        return Path(hf_part("huggingface_hub", "snapshot_download")(name, local_files_only=True))
    except OSError:  # LocalEntryNotFoundError is one
        return None


def _fetched(name: str) -> Path:
    """Raises WeightsError where the hub cannot be reached or does not have it. Only files that are used are fetched, and no code."""
    snapshot_download = hf_part("huggingface_hub", "snapshot_download")
    if hf_part("huggingface_hub", "constants").HF_HUB_OFFLINE:
        raise WeightsError(f"{name}: is not in the Hugging Face cache, and HF_HUB_OFFLINE is set; unset it, or give a folder")
    try:
        folder = Path(snapshot_download(name, allow_patterns=_CONFIGS))
        stock = (folder / "model_index.json").exists()
        return Path(snapshot_download(name, allow_patterns=_STOCK_PATTERNS if stock else ["*.json", *TANGO_FILES, "*/*.json"]))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise WeightsError(
            f"{name}: is no folder here, and cannot be fetched from the hub ({type(error).__name__}: {one_line(error)}); check name and network"
        ) from error
