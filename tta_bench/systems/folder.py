"""Audio that another program generated: one folder for each combination of steps, guidance scale, seed and sampler, files named by clip id."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tta_bench.audio import AUDIO_SUFFIXES, read_audio
from tta_bench.data.manifest import scan_folder
from tta_bench.errors import AudioError, ConfigError, InputError
from tta_bench.files import digest, sha256_file
from tta_bench.systems.protocol import Clip

PLACEHOLDERS = ("steps", "guidance_scale", "seed", "sampler")


def placeholders(template: str) -> set[str]:
    """Names in braces. Raises ValueError for a name that is none of `PLACEHOLDERS`, and for braces that do not match."""
    parsed = list(string.Formatter().parse(template))
    found = {name for _, name, _, _ in parsed if name is not None}
    unknown = sorted(found - set(PLACEHOLDERS))
    if unknown or any(spec or conversion for _, _, spec, conversion in parsed):
        what = f"{{{unknown[0]}}}" if unknown else "a format"
        raise ValueError(f"{what} cannot stand in it; known: {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}")
    return found


def refuse_shared(template: str, name: str, values: Mapping[str, Sequence[Any]]) -> None:
    """Raises ConfigError where one folder would stand for several seeds, scales, steps or samplers; values: those of the run, by placeholder."""
    found = placeholders(template)
    for key, several in values.items():
        if len(several) > 1 and key not in found:
            raise ConfigError(
                f"systems: audio of {name} is one folder for {len(several)} values of {key}; put {{{key}}} into its path, or ask for one"
            )


@dataclass(frozen=True)
class FolderSystem:
    """template: path with `PLACEHOLDERS`; a guidance scale is written as short as it can be: 3, 2.5.

    Files lie directly in a folder or below it, clip ids being paths without suffix; WAV, FLAC, Ogg or MP3 of one rate, that of the first clip.
    A clip without a file fails alone. Audio of clips that were not asked for is passed over. Nothing here took time that says anything.
    """

    name: str
    template: str
    sampler: str = "own"
    example: tuple[int, float, int] = (1, 1.0, 0)

    def folder(self, steps: int, guidance_scale: float, seed: int) -> Path:
        """Where the audio of one combination lies."""
        return Path(self.template.format(steps=steps, guidance_scale=f"{guidance_scale:g}", seed=seed, sampler=self.sampler))

    def files(self, steps: int, guidance_scale: float, seed: int) -> dict[str, Path]:
        """Audio files by clip id. Raises InputError for a folder that is missing, without audio, or with two files of one clip."""
        return {clip.clip_id: clip.path for clip in scan_folder(self.folder(steps, guidance_scale, seed), f"audio of {self.name}", AUDIO_SUFFIXES)}

    def content(self, steps: int, guidance_scale: float, seed: int) -> str:
        """Fingerprint of all audio files of one combination."""
        return digest([clip_id, sha256_file(path)] for clip_id, path in sorted(self.files(steps, guidance_scale, seed).items()))

    @cached_property
    def sample_rate_hz(self) -> int:
        """That of the first clip that can be read, of the folder of `example`: (steps, guidance scale, seed)."""
        files = self.files(*self.example)
        for path in files.values():
            try:
                return read_audio(path).sample_rate_hz
            except AudioError:
                continue
        raise InputError(f"{self.folder(*self.example)}: none of its {len(files)} audio files can be read")

    def generate(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(clip_id, (T,) float32), mono. Raises AudioError for a clip without a file or with one that cannot be read, InputError for another rate."""
        files = self.files(steps, guidance_scale, seed)
        for clip in clips:
            path = files.get(clip.clip_id, self.folder(steps, guidance_scale, seed) / f"{clip.clip_id}.wav")
            audio = read_audio(path)
            if audio.sample_rate_hz != self.sample_rate_hz:
                raise InputError(f"{path}: has {audio.sample_rate_hz} Hz, and other clips of {self.name} have {self.sample_rate_hz}; use one rate")
            yield clip.clip_id, audio.samples
