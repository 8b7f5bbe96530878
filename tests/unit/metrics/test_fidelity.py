from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.divergence import kl_divergence
from tta_bench.metrics.fidelity import RANGE_DB, FidelityCosine, FidelityMel, fidelity_cosine, fidelity_kl, fidelity_mel, log_mel_rmse_db
from tta_bench.metrics.suite import METRICS
from tta_bench.spectrum import PANNS_16K


def _noise(rng: np.random.Generator, clips: int = 3) -> list[np.ndarray]:
    return [0.1 * rng.standard_normal(8_000) for _ in range(clips)]


def test_identical_is_perfect(rng: np.random.Generator) -> None:
    log_mels = [PANNS_16K(clip) for clip in _noise(rng)]
    rows = rng.standard_normal((4, 7))
    assert fidelity_mel(log_mels, log_mels) == 0
    assert fidelity_cosine(rows, rows) == pytest.approx(1.0, rel=1e-14)
    assert fidelity_kl(rows, rows) == 0


@pytest.mark.parametrize("gain", [0.5, 2.0, 0.25])
def test_a_gain_is_its_decibels_whether_quieter_or_louder(rng: np.random.Generator, gain: float) -> None:
    clips = _noise(rng)
    value = fidelity_mel([PANNS_16K(clip) for clip in clips], [PANNS_16K(gain * clip) for clip in clips])
    assert value == pytest.approx(abs(20 * np.log10(gain)), rel=1e-9)


def test_mean_over_clips_of_roots_of_mean_squares() -> None:
    teacher = [np.zeros((2, 2)), np.zeros((3, 2))]
    student = [np.array([[0.0, 0.0], [0.0, 8.0]]), np.full((3, 2), -1.0)]
    score = FidelityMel.of(reference=ClipRows.of("ab", teacher), generated=ClipRows.of("ab", student)).compute()
    np.testing.assert_allclose(score.contributions, [4.0, 1.0], rtol=1e-15)
    assert score.value == 2.5
    assert score.std_error == pytest.approx(1.5, rel=1e-14)
    assert fidelity_mel(teacher, student) == 2.5


def test_nothing_below_the_floor_counts() -> None:
    teacher = np.array([[5.0, -75.0, -76.0, -400.0]])
    student = np.array([[5.0, -90.0, -300.0, -75.0]])
    assert log_mel_rmse_db(teacher, student) == 0
    student[0, 3] = -71.0  # 4 dB above the floor
    assert log_mel_rmse_db(teacher, student) == pytest.approx(2.0, rel=1e-15)


def test_the_floor_is_the_teachers_clip_by_clip() -> None:
    """Of frames [0, -100] and [-40, -90] dB the second is the teacher's only where its own peak sets the floor."""
    a, b = np.array([[0.0], [-100.0]]), np.array([[-40.0], [-90.0]])
    assert log_mel_rmse_db(a, b) == pytest.approx(40 / np.sqrt(2), rel=1e-15)
    assert log_mel_rmse_db(b, a) == pytest.approx(np.sqrt((40**2 + 10**2) / 2), rel=1e-15)
    assert fidelity_mel([a, b], [b, a]) == pytest.approx((log_mel_rmse_db(a, b) + log_mel_rmse_db(b, a)) / 2, rel=1e-15)


def test_a_student_without_a_sound_is_at_the_floor() -> None:
    teacher = np.full((4, 3), 20.0)
    assert log_mel_rmse_db(teacher, np.full((4, 3), -100.0)) == RANGE_DB


def test_a_louder_student_is_not_cut_off() -> None:
    assert log_mel_rmse_db(np.full((4, 3), -10.0), np.full((4, 3), 90.0)) == 100.0


def test_a_silent_teacher() -> None:
    silence, sound = PANNS_16K(np.zeros(8_000)), PANNS_16K(np.sin(0.3 * np.arange(8_000)))
    assert log_mel_rmse_db(silence, silence) == 0
    assert log_mel_rmse_db(silence, sound) == pytest.approx(np.sqrt(np.square(sound + 100.0).mean()), rel=1e-12)
    assert 0 < log_mel_rmse_db(sound, silence) <= RANGE_DB
    score = METRICS["fidelity_mel"].score(ClipRows.of("ab", [silence] * 2), ClipRows.of("ab", [silence] * 2))
    assert (score.value, score.std_error) == (0.0, None)


def test_every_frame_counts_not_their_mean(rng: np.random.Generator) -> None:
    """The suite hands on all rows: frames in another order are another sound, of the same mean."""
    clips = [rng.standard_normal((20, 4)) for _ in range(3)]
    teacher, student = ClipRows.of("abc", clips), ClipRows.of("abc", [clip[::-1] for clip in clips])
    assert METRICS["fidelity_mel"].score(teacher, student).value > 1
    assert METRICS["fidelity_mel"].score(teacher, student).value == fidelity_mel(clips, [clip[::-1] for clip in clips])
    assert METRICS["fidelity_cosine"].score(teacher, student).value == pytest.approx(1.0, rel=1e-12)


def test_cosine_is_of_clip_means() -> None:
    teacher = ClipRows.of("ab", [[[3.0, 0.0], [-1.0, 0.0]], [[0.0, 2.0]]])
    student = ClipRows.of("ba", [[[0.0, -5.0]], [[1.0, 1.0], [1.0, -1.0], [1.0, 3.0]]])
    np.testing.assert_allclose(FidelityCosine.of(reference=teacher, generated=student).compute().contributions, [np.sqrt(0.5), -1.0], rtol=1e-14)


def test_kl_is_the_students_from_the_teachers_point_of_view() -> None:
    """Bernoulli(.5) and (.9): sum p log p/q by hand; the teacher is the first argument."""
    teacher, student = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    assert fidelity_kl(teacher, student) == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), rel=1e-12)
    assert fidelity_kl(student, teacher) == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5), rel=1e-12)
    assert fidelity_kl(teacher, student) == kl_divergence(teacher, student)
    assert METRICS["fidelity_kl"].protocol != METRICS["kl"].protocol


@pytest.mark.parametrize("name", ["fidelity_mel", "fidelity_kl"])
def test_the_sides_are_not_alike(rng: np.random.Generator, name: str) -> None:
    quiet, loud = (ClipRows.of("abc", list(scale * rng.standard_normal((3, 1, 6)))) for scale in (1.0, 70.0))
    assert METRICS[name].score(quiet, loud).value != pytest.approx(METRICS[name].score(loud, quiet).value, rel=1e-3)


def test_other_numbers_of_frames_are_an_error_that_names_the_clip(rng: np.random.Generator) -> None:
    teacher = ClipRows.of(["rain", "dog"], [rng.standard_normal((101, 4)), rng.standard_normal((51, 4))])
    student = ClipRows.of(["rain", "dog"], [rng.standard_normal((100, 4)), rng.standard_normal((51, 4))])
    with pytest.raises(MetricError, match="clip rain has 101 frames in the teacher's audio and 100 in the student's; give both") as caught:
        METRICS["fidelity_mel"].score(teacher, student)
    assert caught.value.status == "unpaired"


@pytest.mark.parametrize("name", ["fidelity_mel", "fidelity_cosine", "fidelity_kl"])
def test_clips_without_a_partner_are_listed(name: str) -> None:
    teacher, student = ClipRows.of(["a", "only_teacher"], np.ones((2, 4))), ClipRows.of(["a", "only_student"], np.ones((2, 4)))
    with pytest.raises(MetricError, match="only_student, only_teacher") as caught:
        METRICS[name].score(teacher, student)
    assert caught.value.status == "unpaired"


def test_bad_values() -> None:
    good = np.ones((2, 3, 4))
    for bad in (np.nan, np.inf, -np.inf):  # 10 log10(0) is the third
        values = good.copy()
        values[1, 2, 3] = bad
        for sides in ((values, good), (good, values)):
            with pytest.raises(InputError, match="features of clip 000000001 hold NaN or infinity"):
                fidelity_mel(*sides)
            with pytest.raises(InputError, match="NaN or infinity"):
                fidelity_kl(*(side[:, 2] for side in sides))
    with pytest.raises(MetricError, match="1 of 2 pairs hold an embedding that is a zero vector"):
        fidelity_cosine([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])


def test_features_stored_in_single_precision_lose_nothing_that_matters(rng: np.random.Generator) -> None:
    clips = _noise(rng)
    teacher, student = ([PANNS_16K(gain * clip).astype(np.float32) for clip in clips] for gain in (1.0, 0.5))
    assert fidelity_mel(teacher, student) == pytest.approx(20 * np.log10(2), rel=1e-6)
