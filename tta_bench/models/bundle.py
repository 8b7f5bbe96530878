"""Networks on disk: NAME.safetensors (float16) beside NAME.json, a card that says what it is, how it was made and its SHA-256.

Loading verifies the SHA-256 and every tensor's name, shape and finiteness. `assets()` is the folder of the networks that ship.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tta_bench.errors import WeightsError
from tta_bench.files import atomic_write, digest, sha256_file, write_text
from tta_bench.models.codec import Codec, CodecShape
from tta_bench.models.denoiser import Denoiser, DenoiserShape
from tta_bench.models.ditar import LMShape, LocDiT, LocDiTShape, PatchLM
from tta_bench.models.embedder import AudioTower, EmbedderShape, TextTower
from tta_bench.models.text import TextEncoder, TextShape, Vocabulary
from tta_bench.weights import load_weights

FORMAT = 1
_SEAL = "card_sha256"
_COUNTER = "num_batches_tracked"  # of batch norm: counts updates, changes no output
N = TypeVar("N", bound=nn.Module)


class Embedder(nn.Module):
    """The embedder's two towers: `audio`, `text`; `classes` names the tagger's K outputs."""

    def __init__(self, shape: EmbedderShape, vocabulary: Vocabulary, classes: tuple[str, ...], text: TextShape | None = None) -> None:
        super().__init__()
        self.audio = AudioTower(shape)
        self.text = TextTower(vocabulary, shape.joint, text)
        self.classes = classes


def assets() -> Path:
    """Folder of the networks that ship with the package."""
    return Path(__file__).parent.parent / "assets"


def save_network(folder: Path, name: str, network: nn.Module, description: Mapping[str, Any]) -> dict[str, Any]:
    """Write folder/NAME.safetensors in float16 and its card; the card. Raises WeightsError for values that float16 cannot hold."""
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    lost = [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if lost:
        raise WeightsError(f"{folder / name}: tensor {lost[0]} does not fit into float16; look at the training that made it")
    path = folder / f"{name}.safetensors"
    with atomic_write(path) as file:
        file.write(save(tensors))
    card = {
        "format": FORMAT,
        "kind": next(kind for kind, (matches, _, _) in KINDS.items() if isinstance(network, matches)),
        "name": name,
        "shape": _shape_of(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        **description,
    }
    return write_card(folder, name, card)


def write_card(folder: Path, name: str, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write a network's card with its own checksum; the card as `read_card` gives it."""
    sealed: dict[str, Any] = json.loads(json.dumps({key: value for key, value in card.items() if key != _SEAL}))
    sealed[_SEAL] = _seal(sealed)
    write_text(folder / f"{name}.json", json.dumps(sealed, indent=1) + "\n")
    return sealed


def _seal(card: Mapping[str, Any]) -> str:
    """Of all that the card says, but for scores, which are noted later: the weights' SHA-256 does not know words, sizes or schedules."""
    return digest([{key: value for key, value in card.items() if key not in (_SEAL, "scores")}])


def read_card(folder: Path, name: str) -> dict[str, Any]:
    """The card of a network. Raises WeightsError where it is missing, damaged, of another format, or was changed since it was written."""
    path = folder / f"{name}.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = card["format"] == FORMAT and card["kind"] in KINDS
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none"
        raise WeightsError(f"{path}: is not there or not a network's card ({error}); networks in this folder: {found}") from error
    if not known:
        raise WeightsError(f"{path}: is of format {card['format']}, kind {card['kind']}, which this version does not know; update tta_bench")
    if card.get(_SEAL) != _seal(card):
        raise WeightsError(f"{path}: was changed since it was written (its checksum differs); fetch or make the network again")
    return card


def load_network(folder: Path, name: str, kind: type[N]) -> tuple[N, dict[str, Any]]:
    """The network called `name`, float32, ready to run, and its card.

    Raises WeightsError where files are missing, damaged, not of this kind, or differ from the card's SHA-256.
    """
    card = read_card(folder, name)
    path = folder / f"{name}.safetensors"
    matches, build, _ = KINDS[card["kind"]]
    if not issubclass(matches, kind):
        raise WeightsError(f"{path}: holds a network of kind {card['kind']}, not {kind.__name__}; name another file")
    if not path.exists() or sha256_file(path) != card["sha256"]:
        raise WeightsError(f"{path}: is missing or is not the file that its card describes (SHA-256 differs); fetch or make both again")
    try:
        network = build(card["shape"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{folder / name}.json: its shape cannot be built ({error!r}); fetch or make both files again") from error
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    weights: dict[str, Tensor] = {key: torch.from_numpy(value) for key, value in load_weights(path, expected).items()}
    network.load_state_dict(weights, strict=False)
    return network.requires_grad_(False).eval(), card


def check_companions(folder: Path, name: str, card: Mapping[str, Any], companions: Mapping[str, Mapping[str, Any]]) -> None:
    """companions: cards of the networks beside a denoiser, by kind. Raises WeightsError for one that it was not trained with."""
    for kind, found in companions.items():
        if card.get(f"{kind}_sha256") != found["sha256"]:
            raise WeightsError(
                f"{folder / name}.json: was trained with another {kind} than {kind}.safetensors beside it; keep a bundle's files together"
            )


def _shape_of(network: nn.Module) -> dict[str, Any]:
    shape: dict[str, Any] = next(describe for matches, _, describe in KINDS.values() if isinstance(network, matches))(network)
    return shape


def _text(encoder: TextEncoder) -> dict[str, Any]:
    return {"text": asdict(encoder.shape), "words": list(encoder.vocabulary.words)}


def _build_text(shape: dict[str, Any]) -> TextEncoder:
    return TextEncoder(Vocabulary(tuple(shape["words"])), TextShape(**shape["text"]))


def _build_lm(shape: dict[str, Any]) -> PatchLM:
    return PatchLM(Vocabulary(tuple(shape["words"])), LMShape(**shape["lm"]))


def _build_embedder(shape: dict[str, Any]) -> Embedder:
    audio = EmbedderShape(**{**shape["audio"], "widths": tuple(shape["audio"]["widths"])})
    return Embedder(audio, Vocabulary(tuple(shape["words"])), tuple(shape["classes"]), TextShape(**shape["text"]))


KINDS: dict[str, tuple[type[nn.Module], Any, Any]] = {
    "codec": (Codec, lambda shape: Codec(CodecShape(**shape)), lambda network: asdict(network.shape)),
    "text": (TextEncoder, _build_text, _text),
    "denoiser": (Denoiser, lambda shape: Denoiser(DenoiserShape(**shape)), lambda network: asdict(network.shape)),
    "locdit": (LocDiT, lambda shape: LocDiT(LocDiTShape(**shape)), lambda network: asdict(network.shape)),
    "lm": (PatchLM, _build_lm, lambda network: {"lm": asdict(network.shape), "words": list(network.vocabulary.words)}),
    "embedder": (
        Embedder,
        _build_embedder,
        lambda network: {"audio": asdict(network.audio.shape), "classes": list(network.classes), **_text(network.text.encoder)},
    ),
}
