"""What a sweep generates and what it compares with: captions, the reference audio, and the anchors' audio."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tta_bench.audio import read_audio, read_bytes, resample
from tta_bench.data.manifest import CaptionedClip, ClipFile, read_manifest
from tta_bench.data.synth import other_caption, synth_clip
from tta_bench.embedders.protocol import Embedder
from tta_bench.errors import ConfigError, InputError
from tta_bench.files import digest, sha256_file, write_text
from tta_bench.harness.features import EmbedOptions, embed_clips
from tta_bench.harness.progress import Progress
from tta_bench.harness.run_config import Clips
from tta_bench.harness.scoring import Side, fingerprint
from tta_bench.harness.store import FeatureCache, FeatureSet, feature_key, load_pack, pack
from tta_bench.harness.synth_set import SynthSet, write_synth_set
from tta_bench.systems.anchors import Audio, RealAudio, rendered_again, synth_code
from tta_bench.systems.protocol import Clip
from tta_bench.weights import cache_folder

_LONGEST_NAME = 240  # of the 255 bytes that file systems take, with room for a suffix


@dataclass(frozen=True)
class Material:
    """clips: what is generated, by id. files: the reference's audio, the same ids. own: that audio as a system.

    other: real audio that is not in the reference, and the clips that it is made for; None where there is none. inputs: files that it is read from.
    """

    name: str
    clips: list[Clip]
    files: list[ClipFile]
    own: RealAudio
    other: tuple[RealAudio, list[Clip]] | None
    inputs: Sequence[Path] = ()

    @property
    def captions(self) -> dict[str, str]:
        """By clip id, of all clips that any system makes."""
        others = self.other[1] if self.other else []
        return {clip.clip_id: clip.caption for clip in (*others, *self.clips)}


def clips_digest(clips: Sequence[Clip]) -> str:
    """Fingerprint of ids and captions."""
    return digest([clip.clip_id, clip.caption] for clip in clips)


def prepare_material(config: Clips, folder: Path, progress: Progress) -> Material:
    """The clips of a sweep; SynthCaps' audio is rendered into folder/audio once. Raises InputError for a manifest that cannot be used."""
    return _of_manifest(config) if config.manifest else _of_synth(config, folder, progress)


def _of_synth(config: Clips, folder: Path, progress: Progress) -> Material:
    if config.real or config.folder or config.list:
        raise ConfigError("clips.real, clips.folder and clips.list go with clips.manifest, which is not given; add it or remove them")
    assert config.n is not None  # as `Clips` fills it in without a manifest
    key = digest([synth_code(), config.split, config.seed, config.n])
    audio, marker = folder / "audio", folder / "synthcaps.json"
    if not _holds(marker, key, audio):
        write_synth_set(SynthSet(out=audio, n=config.n, split=config.split, seed=config.seed), progress)
        hashes = {path.name: sha256_file(path) for path in sorted(audio.glob("*.flac"))}
        write_text(marker, json.dumps({"key": key, "files": hashes}, indent=1) + "\n")
    clips = [Clip(f"{config.split}-{i:06d}", other_caption(config.seed, config.split, i, 0)) for i in range(config.n)]
    files = [ClipFile(clip.clip_id, audio / f"{clip.clip_id}.flac") for clip in clips]
    own = RealAudio("reference", lambda clip: synth_clip(config.seed, config.split, _index(clip)).audio, key)
    again = RealAudio("real audio", lambda clip: rendered_again(config.seed, config.split, _index(clip)), digest([key, "again"]))
    return Material(f"synthcaps-{config.split}-{config.seed}", clips, files, own, (again, clips))


def _holds(marker: Path, key: str, audio: Path) -> bool:
    """Whether the set was rendered and all of its files are what they were; those that are not are removed."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found["key"] != key:
            return False
        files = {audio / name: sha256 for name, sha256 in found["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    damaged = [path for path, sha256 in files.items() if not path.is_file() or sha256_file(path) != sha256]
    for path in damaged:
        path.unlink(missing_ok=True)
    return not damaged


def _index(clip: Clip) -> int:
    return int(clip.clip_id.rsplit("-", 1)[1])


def _of_manifest(config: Clips) -> Material:
    assert config.manifest is not None
    listed = _first(read_manifest(config.manifest, config.folder, config.list), config, config.manifest)
    own = _recordings("reference", listed)
    other = None
    inputs = [clip.path for clip in listed]
    if config.real:
        others = _first(read_manifest(config.real), config, config.real)
        shared = {_content(clip) for clip in others} & {_content(clip) for clip in listed}
        if shared:
            raise InputError(f"clips.real {config.real}: holds {len(shared)} recordings of the reference too; the row must be of other audio")
        inputs += [clip.path for clip in others]
        other = (_recordings("real audio", others), [Clip(clip.clip_id, clip.caption) for clip in others])
        twice = sorted({clip.clip_id for clip in others} & {clip.clip_id for clip in listed})
        if twice:
            raise InputError(f"clips.real {config.real}: clip id {twice[0]} is one of the reference's too; name other recordings differently")
    files = [ClipFile(clip.clip_id, clip.path) for clip in listed]
    name = f"{config.manifest.stem}-{config.list}" if config.list else config.manifest.stem
    return Material(name, [Clip(clip.clip_id, clip.caption) for clip in listed], files, own, other, inputs)


def _first(clips: list[CaptionedClip], config: Clips, path: Path) -> list[CaptionedClip]:
    if config.n is not None and len(clips) < config.n:
        raise ConfigError(f"clips.n = {config.n}: {path} lists {len(clips)} clips; ask for at most as many")
    for clip in clips[: config.n]:
        longest = max(clip.clip_id.split("/"), key=lambda part: len(os.fsencode(part)))
        if len(os.fsencode(longest)) > _LONGEST_NAME:
            raise InputError(f"{path}: clip id {longest[:40]}... is too long for the name of a file; make it at most {_LONGEST_NAME} bytes long")
    return clips[: config.n]


def _content(clip: CaptionedClip) -> str:
    return sha256_file(clip.path)


def _recordings(name: str, clips: Sequence[CaptionedClip]) -> RealAudio:
    paths = {clip.clip_id: clip.path for clip in clips}
    rate = read_audio(clips[0].path).sample_rate_hz

    def source(clip: Clip) -> Audio:
        audio = read_audio(paths[clip.clip_id])
        return resample(audio.samples, audio.sample_rate_hz, rate)

    return RealAudio(name, source, digest([_content(clip) for clip in clips]), rate)


def reference_side(material: Material, folder: Path, embedders: Sequence[Embedder], batch_size: int, progress: Progress) -> Side:
    """The reference under all embedders, packed in the run's folder. Raises AudioError for a file that cannot be used."""
    hashes = {clip.clip_id: hashlib.sha256(read_bytes(clip.path)).hexdigest() for clip in material.files}
    packed: dict[str, FeatureSet] = {}
    for embedder in embedders:
        key = digest([feature_key(embedder), fingerprint(hashes, hashes)])
        path = folder / "features" / f"{embedder.name}.safetensors"
        there = load_pack(path, key)
        packed[embedder.name] = there if there is not None else _embedded(material, embedder, path, key, batch_size, progress)
    return Side(material.name, hashes, 0, lambda embedder: packed[embedder.name])


def _embedded(material: Material, embedder: Embedder, path: Path, key: str, batch_size: int, progress: Progress) -> FeatureSet:
    cache = FeatureCache(cache_folder())
    found = embed_clips(material.files, [embedder], cache, EmbedOptions(False, batch_size, progress, "embedding reference"))
    return pack(path, [clip.clip_id for clip in found.clips], [cache.path(embedder, clip.audio_sha256) for clip in found.clips], key)
