"""Audio of one system for many clips: batches, wall clock of sampling and decoding, and what is left when a clip fails."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tta_bench.errors import AudioError, ConfigError, TtaBenchError
from tta_bench.systems.protocol import Clip, System

Audio = npt.NDArray[np.float32]


@runtime_checkable
class StagedSystem(System, Protocol):
    """A system whose sampling and decoding can be timed apart. `latents` takes one batch; `decode` gives (B, T), or (T,) of each clip."""

    def latents(self, clips: Sequence[Clip], *, steps: int, guidance_scale: float, seed: int) -> Any: ...
    def decode(self, latents: Any) -> Any: ...


@dataclass(frozen=True)
class Setting:
    """How a system is asked to generate. steps: network evaluations per guidance branch. shortest_s: of audio that can be scored."""

    steps: int
    guidance_scale: float
    seed: int
    shortest_s: float = 0.0


@dataclass(frozen=True)
class Batch:
    """audio by clip id; sampling_s: seconds to the latents (to the audio, where decoding_s is None); failed: reason by clip id."""

    audio: dict[str, Audio]
    sampling_s: float
    decoding_s: float | None
    failed: dict[str, str]


def generate_batches(system: System, clips: Sequence[Clip], setting: Setting, batch_size: int, device: str = "cpu") -> Iterator[Batch]:
    """All clips in batches. Where a batch fails, its clips are tried one by one, and those that fail again are named with the reason."""
    for start in range(0, len(clips), batch_size):
        part = clips[start : start + batch_size]
        try:
            yield timed_batch(system, part, setting, device)
        except Exception as error:  # whatever a model raises costs its clips, never the run
            if isinstance(error, TtaBenchError) and not isinstance(error, AudioError):  # of the setting, not of a clip
                raise
            if len(part) == 1:
                yield Batch({}, 0.0, None, {part[0].clip_id: reason(error)})
                continue
            for clip in part:
                yield from generate_batches(system, [clip], setting, 1, device)


def timed_batch(system: System, clips: Sequence[Clip], setting: Setting, device: str = "cpu") -> Batch:
    """One batch. Clips with NaN or infinity in them, or that were not made, fail; the device has finished whenever the clock is read."""
    wait = synchroniser(device)
    shortest = math.ceil(setting.shortest_s * system.sample_rate_hz)
    arguments: dict[str, Any] = {"steps": setting.steps, "guidance_scale": setting.guidance_scale, "seed": setting.seed}
    wait()
    start = perf_counter()
    if isinstance(system, StagedSystem):
        latents = system.latents(clips, **arguments)
        wait()
        sampled = perf_counter()
        decoded = system.decode(latents)
        wait()
        end = perf_counter()
        made = {clip.clip_id: samples.float().cpu().numpy() for clip, samples in zip(clips, decoded, strict=True)}
        return _checked(clips, made, sampled - start, end - sampled, shortest)
    pairs = list(itertools.islice(system.generate(clips, **arguments), len(clips) + 1))
    wait()
    end = perf_counter()
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise ConfigError("the system's generate must give pairs (clip_id, audio)")
    made = dict(pairs)
    _no_extra(clips, made)
    if len(made) < len(pairs):
        twice = next(clip_id for clip_id, count in Counter(clip_id for clip_id, _ in pairs).items() if count > 1)
        raise ConfigError(f"the system gave {twice} twice in one call; it must give each clip once")
    return _checked(clips, made, end - start, None, shortest)


def _checked(clips: Sequence[Clip], made: dict[str, Any], sampling_s: float, decoding_s: float | None, shortest: int) -> Batch:
    audio, failed = {}, {}
    for clip_id in (clip.clip_id for clip in clips):
        problem = _problem(made.get(clip_id), shortest)
        if problem:
            failed[clip_id] = problem
        else:
            audio[clip_id] = np.asarray(made[clip_id], dtype=np.float32)
    return Batch(audio, sampling_s, decoding_s, failed)


def _no_extra(clips: Sequence[Clip], made: Iterable[str]) -> None:
    extra = sorted(set(made) - {clip.clip_id for clip in clips}, key=str)
    if extra:
        raise ConfigError(f"the system gave a clip that was not asked for, {extra[0]}")


def _problem(samples: Any, shortest: int) -> str | None:
    if samples is None:
        return "the system gave no audio for it"
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or len(samples) == 0 or not np.issubdtype(samples.dtype, np.floating):
        what = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        return f"the audio is not an array (T,) of floats but {what}"
    if len(samples) < shortest:
        return f"the audio has {len(samples)} samples, and embedders need {shortest}"
    return None if bool(np.isfinite(samples).all()) else "the audio holds NaN or infinity"


def reason(error: BaseException) -> str:
    """One line for people."""
    if isinstance(error, AudioError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def synchroniser(device: str) -> Callable[[], None]:
    """What to call before reading the clock: kernels on a GPU run behind the program's back."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize
