from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tta_bench import spectrum
from tta_bench.errors import InputError
from tta_bench.spectrum import PANNS_16K, PANNS_32K, VGGISH, patches, windowed_patches


def _tone(hz: float, seconds: float, rate: int = 16_000) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.shared
def test_front_ends_reproduce_the_tools_own_log_mels(shared: Path) -> None:
    stored = np.load(shared / "parity" / "frontends.npz")
    log_mel = VGGISH(_tone(1000, 3))
    np.testing.assert_allclose(log_mel, stored["vggish_logmel_sine1k"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(patches(log_mel), stored["vggish_examples_sine1k"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(patches(VGGISH(stored["noise16"])), stored["vggish_examples_noise16"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(PANNS_16K(stored["noise16"][:16_000]), stored["panns16k_logmel"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(PANNS_32K(stored["noise32"]), stored["panns32k_logmel"], atol=1e-4, rtol=0)


@pytest.mark.shared
def test_patch_counts_are_those_of_the_tools(shared: Path) -> None:
    counts = json.loads((shared / "parity" / "frontends.json").read_text())["frames_per_seconds"]
    for seconds, expected in counts.items():
        if seconds != "columns":
            audio = np.zeros(round(float(seconds) * 16_000))
            log_mel = VGGISH(audio)
            assert [len(log_mel), len(patches(log_mel)), len(windowed_patches(audio, VGGISH))] == expected, seconds


@pytest.mark.parametrize(("samples", "count"), [(15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (160_000, 10)])
def test_vggish_patches_come_every_96_frames(samples: int, count: int) -> None:
    assert patches(VGGISH(np.zeros(samples))).shape == (count, 96, 64)


@pytest.mark.parametrize(("front_end", "hz"), [(VGGISH, 440), (VGGISH, 3000), (PANNS_16K, 440), (PANNS_32K, 6000)])
def test_a_tone_is_loudest_in_the_band_around_it(front_end: spectrum.LogMel, hz: float) -> None:
    log_mel = front_end(_tone(hz, 1.0, front_end.sample_rate_hz)).mean(axis=0)
    centres = (front_end.matrix * np.arange(front_end.n_fft // 2 + 1)[:, None]).sum(axis=0) / front_end.matrix.sum(axis=0)
    found = centres[np.argmax(log_mel)] * front_end.sample_rate_hz / front_end.n_fft
    assert abs(found - hz) < 0.12 * hz


def test_twice_the_amplitude_is_6_db() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000)
    np.testing.assert_allclose(PANNS_16K(2 * noise) - PANNS_16K(noise), 20 * np.log10(2), rtol=1e-9)


def test_slaney_scale_is_its_own_inverse_and_areas_are_one() -> None:
    hz = np.linspace(0, 15_000, 400)
    np.testing.assert_allclose(spectrum.mel_to_hz_slaney(spectrum.hz_to_mel_slaney(hz)), hz, rtol=1e-12, atol=1e-9)
    areas = spectrum.mel_matrix_slaney(20, 8192, 32_000, 50, 14_000).sum(axis=0) * 32_000 / 8192
    np.testing.assert_allclose(areas, 1.0, rtol=0.01)
    assert (VGGISH.matrix[0] == 0).all()


@pytest.mark.parametrize("front_end", [VGGISH, PANNS_16K])
def test_too_short_is_an_error_that_says_how_much_is_needed(front_end: spectrum.LogMel) -> None:
    with pytest.raises(InputError, match=f"shorter than the {front_end.min_samples}"):
        front_end(np.zeros(front_end.min_samples - 1))
    assert len(front_end(np.zeros(front_end.min_samples))) >= 1
