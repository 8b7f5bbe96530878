from __future__ import annotations

import numpy as np
import pytest

from tests.unit.harness.toys import ToyEmbedder
from tta_bench.audio import quantise
from tta_bench.embedders.log_mel import LogMelEmbedder
from tta_bench.errors import InputError
from tta_bench.harness.listening import difference, hear, over_seeds, score
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import mean_score

IDS = [f"clip{i}" for i in range(12)]


def audio(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [0.1 * rng.standard_normal(16_000).astype(np.float32) for _ in IDS]


def test_audio_is_heard_as_it_would_be_read_back_from_16_bits() -> None:
    sounds = audio(0)
    a = hear(IDS, sounds, [LogMelEmbedder()]).of("log_mel")
    b = hear(IDS, [quantise(s)[0] / 32768.0 for s in sounds], [LogMelEmbedder()], batch_size=5).of("log_mel")
    assert np.array_equal(a.matrix(), b.matrix())
    with pytest.raises(InputError, match="have no joint"):
        hear(IDS, sounds, [LogMelEmbedder()]).of("joint")


def test_scores_are_those_of_the_suite() -> None:
    real, made = (hear(IDS, audio(seed), [ToyEmbedder(), LogMelEmbedder()]) for seed in (0, 1))
    assert score("fidelity_mel", real, real).value == 0.0
    assert score("fidelity_mel", made, real).value > 1.0
    assert score("kl", made, real).n == len(IDS)


def test_seeds_are_averaged_within_a_clip() -> None:
    values = np.random.default_rng(0).standard_normal((3, 50))
    ids = [f"{i:02d}" for i in range(50)]
    pooled = over_seeds([mean_score(ids, row) for row in values])
    assert pooled.n == 50
    assert pooled.value == pytest.approx(values.mean())
    assert pooled.std_error == pytest.approx(values.mean(axis=0).std(ddof=1) / np.sqrt(50))
    with pytest.raises(InputError, match="same clips with every seed"):
        over_seeds([mean_score(ids, values[0]), mean_score(ids[1:], values[0, 1:])])


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    ids, shared = [f"{i:02d}" for i in range(50)], rng.standard_normal(50)
    a, b = (mean_score(ids, shared + 0.01 * rng.standard_normal(50) + shift) for shift in (0.1, 0.0))
    item = difference(a, b)
    assert item.value == pytest.approx(a.value - b.value)
    assert item.std_error is not None
    assert a.std_error is not None
    assert item.std_error < 0.1 * a.std_error
    with pytest.raises(InputError, match="same clips with both systems"):
        difference(a, mean_score(ids[1:], shared[1:]))


def test_rows_of_captions_may_stand_for_the_reference() -> None:
    made = hear(IDS, audio(1), [ToyEmbedder()])
    rows = ClipRows.of(IDS, list(made.of("joint").matrix()))
    assert score("clap", made, rows).value == pytest.approx(1.0, abs=1e-3)
