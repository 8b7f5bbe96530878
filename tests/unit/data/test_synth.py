"""Rendered scenes hold what their scene says: levels, order, overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import SPLITS, Event, Scene, Split, draw_scene
from tta_bench.data.synth import CLIP_SAMPLES, event_labels, level, other_caption, render_event, render_scene, synth_clip
from tta_bench.rng import generator

RATE_HZ = 16_000
LOW, HIGH = Event("engine"), Event("cricket")  # below 1 kHz, above 3 kHz
DRAWS = 6


def _band_energy(audio: np.ndarray, band: str) -> float:
    order = {"low": ("lowpass", 1_000), "high": ("highpass", 3_000)}[band]
    return float(np.square(signal.sosfiltfilt(signal.butter(6, order[1], order[0], fs=RATE_HZ, output="sos"), audio)).sum())


def _early_share(audio: np.ndarray, band: str) -> float:
    """Share of a band's energy in the first half of the clip."""
    half = len(audio) // 2
    early, late = _band_energy(audio[:half], band), _band_energy(audio[half:], band)
    return early / (early + late)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0, 10**6))
def test_a_clip(seed: int, split: Split, index: int) -> None:
    clip = synth_clip(seed, split, index)
    assert clip.audio.shape == (CLIP_SAMPLES,)
    assert clip.audio.dtype == np.float32
    assert np.isfinite(clip.audio).all()
    assert 1e-3 < np.abs(clip.audio).max() <= 1.0
    assert clip.clip_id == f"{split}-{index:06d}"
    assert clip.scene == draw_scene(seed, split, index)
    assert clip.caption == other_caption(seed, split, index, 0)
    again = synth_clip(seed, split, index)
    np.testing.assert_array_equal(clip.audio, again.audio)
    assert clip.caption == again.caption


def test_other_clips_sound_different() -> None:
    audio = np.stack([synth_clip(seed, split, index).audio for seed in (0, 1) for split in SPLITS for index in (0, 1)])
    assert len(np.unique(audio, axis=0)) == len(audio)


def test_no_digital_silence() -> None:
    for i in range(10):
        audio = synth_clip(0, "train", i).audio
        assert np.abs(audio).reshape(-1, 640).max(axis=1).min() > 1e-5


@pytest.mark.parametrize("name", sorted(EVENT_CLASSES))
def test_loud_is_more_than_10_db_above_soft(name: str) -> None:
    """The same sound, alone in a clip and as an event."""
    for draw in range(2):
        soft, ordinary, loud = (render_event(Event(name, loudness=step), 40_960, generator(0, "level", name, draw)) for step in (-1, 0, 1))
        levels = [20.0 * np.log10(level(sound)) for sound in (soft, ordinary, loud)]
        assert levels[2] - levels[0] > 10.0
        assert levels[0] + 4.0 < levels[1] < levels[2] - 4.0
    soft, loud = (render_scene(Scene(((Event(name, loudness=step),),)), generator(0, "level", name)) for step in (-1, 1))
    assert 10.0 * np.log10(np.square(loud).sum() / np.square(soft).sum()) > 10.0


@pytest.mark.parametrize("draw", range(DRAWS))
def test_what_is_first_is_heard_first(draw: int) -> None:
    low_first = render_scene(Scene(((LOW,), (HIGH,))), generator(0, "order", draw))
    high_first = render_scene(Scene(((HIGH,), (LOW,))), generator(0, "order", draw))
    assert _early_share(low_first, "low") > 0.7
    assert _early_share(low_first, "high") < 0.3
    assert _early_share(high_first, "low") < 0.3
    assert _early_share(high_first, "high") > 0.7


@pytest.mark.parametrize("draw", range(DRAWS))
def test_what_is_at_once_overlaps(draw: int) -> None:
    audio = render_scene(Scene(((LOW, HIGH),)), generator(0, "at once", draw))
    for band in ("low", "high"):
        assert 0.3 < _early_share(audio, band) < 0.7


@pytest.mark.parametrize("draw", range(DRAWS))
def test_three_in_turn(draw: int) -> None:
    audio = render_scene(Scene(((HIGH,), (LOW,), (replace(HIGH, loudness=1),))), generator(0, "three", draw))
    thirds = [audio[i : i + CLIP_SAMPLES // 3] for i in (0, CLIP_SAMPLES // 3, 2 * CLIP_SAMPLES // 3)]
    high = [_band_energy(third, "high") for third in thirds]
    assert int(np.argmax([_band_energy(third, "low") for third in thirds])) == 1
    assert high[1] < 0.5 * high[0] < 0.5 * high[2]


def test_loud_clips_are_scaled_not_clipped() -> None:
    scene = Scene((tuple(Event(name, loudness=1) for name in ("click", "knock", "clock", "drum", "crackle", "footsteps", "bell", "drops")),))
    for draw in range(DRAWS):
        audio = render_scene(scene, generator(0, "peak", draw))
        assert np.abs(audio).max() <= 0.971
        assert (np.abs(audio) > 0.9699).sum() <= 2


def test_labels_name_the_events() -> None:
    names = list(EVENT_CLASSES)
    for i in range(50):
        scene = draw_scene(0, "test", i)
        labels = event_labels(scene)
        assert labels.shape == (len(names),)
        assert {names[k] for k in np.flatnonzero(labels)} == {event.name for event in scene.events}
