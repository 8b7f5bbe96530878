"""Every state of the gate, and that it keeps its promises about chance."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from tests.unit.records import record, row_score, scores
from tta_bench.errors import ConfigError
from tta_bench.gate import VERDICTS, GateConfig, Verdict, blocked, holm, judge
from tta_bench.gate_power import Chance, critical_value, detectable_effect, power
from tta_bench.gate_report import by_severity, counts, junit, markdown, sentence
from tta_bench.rows import RowScore

N = 256


def _clap(rng: np.random.Generator, shift: float = 0.0, spread: float = 0.05) -> np.ndarray:
    return 0.8 + shift + spread * rng.standard_normal(N)


def _only(verdicts: list[Verdict]) -> Verdict:
    assert len(verdicts) == 1
    return verdicts[0]


def test_the_same_scores_are_the_same(rng: np.random.Generator) -> None:
    values = _clap(rng)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values))))
    assert verdict.verdict == "SAME"
    assert not verdict.blocks
    assert verdict.difference == 0.0
    assert verdict.detectable is None  # nothing tells how two runs would differ
    assert "smallest detectable unknown" in sentence(verdict)


@pytest.mark.parametrize(("direction", "shift", "expected"), [
    ("higher", -0.05, "WORSE"), ("higher", 0.05, "BETTER"), ("lower", 0.05, "WORSE"), ("lower", -0.05, "BETTER"),
])  # fmt: skip
def test_a_clear_change_beyond_the_margin(rng: np.random.Generator, direction: str, shift: float, expected: str) -> None:
    values = _clap(rng)
    after = values + shift + 0.01 * rng.standard_normal(N)
    verdict = _only(judge(scores(row_score(values, direction=direction)), scores(row_score(after, direction=direction))))
    assert verdict.verdict == expected
    assert verdict.blocks == (expected == "WORSE")
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < after.mean() - values.mean() < verdict.high


def test_a_clear_change_within_the_margin_is_the_same(rng: np.random.Generator) -> None:
    values = _clap(rng)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values - 0.01 + 1e-3 * rng.standard_normal(N)))))
    assert verdict.high is not None
    assert verdict.high < 0  # statistically clear
    assert verdict.verdict == "SAME"


def test_a_large_change_that_may_be_chance_is_never_the_same(rng: np.random.Generator) -> None:
    values = _clap(rng)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values - 0.03 + 0.4 * rng.standard_normal(N)))))
    assert verdict.verdict == "UNRESOLVED"
    assert not verdict.blocks
    strict = _only(
        judge(scores(row_score(values)), scores(row_score(values - 0.03 + 0.4 * rng.standard_normal(N))), GateConfig(block_unresolved=True))
    )
    assert strict.blocks


def test_unresolved_on_the_good_side_only_does_not_block(rng: np.random.Generator) -> None:
    values = _clap(rng)
    after = values + 0.018 + 0.01 * rng.standard_normal(N)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(after)), GateConfig(block_unresolved=True)))
    assert verdict.verdict == "UNRESOLVED"
    assert not verdict.blocks


def test_new_and_missing(rng: np.random.Generator) -> None:
    a, b = row_score(_clap(rng)), row_score(_clap(rng), steps=50)
    new, missing = judge(scores(a), scores(a, b))[1], judge(scores(a, b), scores(a))[1]
    assert (new.verdict, new.blocks) == ("NEW", False)
    assert (missing.verdict, missing.blocks) == ("MISSING", True)


def test_no_score_blocks_on_either_side(rng: np.random.Generator) -> None:
    good = row_score(_clap(rng), n=64)
    broken = record(value=None, std_error=None, ci_low=None, ci_high=None, status="not_finite", message="clap came out as nan")
    bad = RowScore(good.key, (broken,), None, None)
    for before, after in ((good, bad), (bad, good)):
        verdict = _only(judge(scores(before), scores(after)))
        assert (verdict.verdict, verdict.blocks) == ("NOT_FINITE", True)
        assert "clap came out as nan" in verdict.reason
    assert _only(judge({}, scores(bad))).verdict == "NOT_FINITE"  # not NEW


@pytest.mark.parametrize("field", ["protocol", "embedder_sha256", "reference_sha256", "captions_sha256", "n_reference", "metric_version"])
def test_another_measurement_is_incomparable(rng: np.random.Generator, field: str) -> None:
    before = row_score(_clap(rng))
    changed = {"n_reference": 65, "metric_version": 2}.get(field, "other")
    verdict = _only(judge(scores(before), scores(row_score(_clap(rng), **{field: changed}))))
    assert (verdict.verdict, verdict.blocks) == ("INCOMPARABLE", True)
    assert verdict.value is not None


def test_another_number_of_clips_is_incomparable(rng: np.random.Generator) -> None:
    values = _clap(rng)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values[:-1]))))
    assert (verdict.verdict, verdict.blocks) == ("INCOMPARABLE", True)


def test_other_clips_are_incomparable(rng: np.random.Generator) -> None:
    values = _clap(rng)
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values, ids=tuple(f"x-{i:03d}" for i in range(N))))))
    assert (verdict.verdict, verdict.reason) == ("INCOMPARABLE", "other clips than in the baseline")


def test_fidelity_may_have_another_teachers_audio_but_not_another_teacher(rng: np.random.Generator) -> None:
    values = _clap(rng)
    facts = {"metric": "fidelity_cosine", "protocol": "cosine_clip_teacher", "reference": "teacher | 200 steps", "n_reference": N}
    before = row_score(values, **facts, reference_sha256="a")
    assert _only(judge(scores(before), scores(row_score(values, **facts, reference_sha256="b")))).verdict == "SAME"
    other = row_score(values, **{**facts, "reference": "teacher | 100 steps"}, reference_sha256="b")
    assert _only(judge(scores(before), scores(other))).verdict == "INCOMPARABLE"


def test_no_interval_blocks(rng: np.random.Generator) -> None:
    score = row_score(_clap(rng))
    unknown = replace(score, contributions=np.full((1, N), np.nan))
    verdict = _only(judge(scores(unknown), scores(unknown)))
    assert (verdict.verdict, verdict.blocks) == ("NOT_FINITE", True)
    assert "too few clips for an interval" in verdict.reason


def test_seeds_that_are_missing_block(rng: np.random.Generator) -> None:
    values = _clap(rng)
    whole = row_score(np.stack([values, values]))
    half = replace(row_score(values), planned=2)
    verdict = _only(judge(scores(whole), scores(half)))
    assert (verdict.verdict, verdict.blocks, verdict.reason) == ("NOT_FINITE", True, "incomplete: 1 of 2 seeds have it")


def test_nothing_to_compare_blocks(rng: np.random.Generator) -> None:
    assert blocked([])
    assert blocked(judge({}, {}))
    clap, fad = row_score(_clap(rng)), row_score(_clap(rng), metric="fad")
    assert blocked(judge(scores(clap), scores(clap, fad), GateConfig(metrics=("fad",))))  # NEW alone
    assert not blocked(judge(scores(clap), scores(clap, fad)))


@pytest.mark.parametrize("config", [GateConfig(metrics=("clap", "kat")), GateConfig(margins={"kat": 0.1})])
def test_names_that_nothing_has_are_refused(rng: np.random.Generator, config: GateConfig) -> None:
    score = row_score(_clap(rng))
    with pytest.raises(ConfigError, match="neither the run nor the baseline has a metric 'kat'; there are clap"):
        judge(scores(score), scores(score), config)


def test_seeds_are_averaged_within_a_clip_and_never_counted(rng: np.random.Generator) -> None:
    """Three equal seeds say as much as one."""
    one = rng.standard_normal(N) * 0.05
    values = _clap(rng)
    single = _only(judge(scores(row_score(values)), scores(row_score(values + one))))
    triple = _only(judge(scores(row_score(np.stack([values] * 3))), scores(row_score(np.stack([values + one] * 3)))))
    assert (single.low, single.high) == pytest.approx((triple.low, triple.high))


def test_margins() -> None:
    config = GateConfig(margins={"fad": 3.0, "made_up": "20 %"})
    assert config.margin("fad", 100.0) == 3.0
    assert config.margin("made_up", -10.0) == 2.0
    assert config.margin("kl", 2.0) == pytest.approx(0.2)
    assert config.margin("unheard of", 5.0) == pytest.approx(0.5)
    for wrong in ("ten", "-1 %", "nan", -0.1, "inf"):
        with pytest.raises(ValidationError):
            GateConfig(margins={"fad": wrong})


def test_a_margin_of_the_baseline_counts_both_ways(rng: np.random.Generator) -> None:
    values = 100.0 + rng.standard_normal(N)
    facts = {"metric": "fad", "direction": "lower"}
    worse = judge(scores(row_score(values, **facts)), scores(row_score(values * 1.11, **facts)))
    same = judge(scores(row_score(values, **facts)), scores(row_score(values * 1.09, **facts)))
    assert [_only(worse).verdict, _only(same).verdict] == ["WORSE", "SAME"]


def test_holm_by_hand() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.9])
    assert holm(p, 0.05).tolist() == [False, True, False, False]  # .001 <= .0125, .02 > .0167: stop
    assert holm(np.array([0.04, 0.001, 0.016, 0.02]), 0.05).tolist() == [True, True, True, True]  # .016 <= .0167, .02 <= .025, .04 <= .05
    assert holm(np.array([]), 0.05).tolist() == []


def test_families_of_unchanged_rows_are_blocked_as_rarely_as_alpha_says(rng: np.random.Generator) -> None:
    """400 whole runs of 20 rows; margin 0, so that chance alone decides. Holm keeps the family-wise error, 10 % asked for."""
    config = GateConfig(alpha=0.1, margins={"clap": 0.0})
    clips = rng.standard_normal((20, 64))
    hits = 0
    for _ in range(400):
        before, after = (scores(*(row_score(clips[i] + rng.standard_normal(64), steps=i + 1) for i in range(20))) for _ in range(2))
        hits += blocked(judge(before, after, config))
    assert 20 <= hits <= 60


def test_the_detectable_effect_is_blocked_as_often_as_the_power_says(rng: np.random.Generator) -> None:
    config = GateConfig(power=0.8)
    values = _clap(rng)
    detectable = _only(judge(scores(row_score(values)), scores(row_score(values + 0.1 * rng.standard_normal(N))), config)).detectable
    assert detectable is not None
    hits = 0
    for _ in range(400):
        after = values - detectable + 0.1 * rng.standard_normal(N)
        hits += _only(judge(scores(row_score(values)), scores(row_score(after)), config)).verdict == "WORSE"
    assert 0.72 <= hits / 400 <= 0.88


@pytest.mark.parametrize(("dof", "needed"), [(19, 7.28), (54, 6.16), (255, 5.78)])
def test_the_detectable_effect_knows_that_the_error_is_estimated(dof: int, needed: float) -> None:
    """Noncentral t at 384 tests, power 95 %, in standard errors; without a margin."""
    assert detectable_effect(Chance(1.0, dof, dof), 0.0, 384, 0.01, 0.95) == pytest.approx(needed, abs=0.01)
    assert detectable_effect(Chance(0.0, dof, dof), 0.1, 384, 0.01, 0.95) is None


def test_noise_in_few_clips_takes_a_larger_change(rng: np.random.Generator) -> None:
    """Eight of 256 clips bear nearly all noise: the degrees of freedom are near eight, and as many runs as promised are blocked."""
    size = np.where(np.arange(N) < 8, 1.0, 0.02)
    centre = _clap(rng)
    many = row_score(centre + size * rng.standard_normal((40, N)))
    assert many.seed_dof == pytest.approx(8.0, rel=0.4)
    three = row_score(centre + size * rng.standard_normal((3, N)))
    config = GateConfig(margins={"clap": 0.0})
    detectable = _only(judge(scores(three), scores(three), config)).detectable
    assert detectable is not None
    chance = Chance(float(np.sqrt(2 / 3 * np.square(size).sum()) / N), N - 1, 8.0)
    wanted = detectable_effect(chance, 0.0, 1, config.alpha, config.power)
    assert wanted is not None
    hits = 0
    for _ in range(400):
        before, after = (centre + (size * rng.standard_normal((3, N))).mean(axis=0) for _ in range(2))
        hits += _only(judge(scores(row_score(before)), scores(row_score(after - wanted)), config)).verdict == "WORSE"
    assert hits / 400 >= 0.93


def test_the_detectable_effect_is_that_of_fresh_seeds_where_seeds_tell(rng: np.random.Generator) -> None:
    """The same audio twice differs by nothing; another run would not."""
    values = np.stack([_clap(rng) for _ in range(3)])
    verdict = _only(judge(scores(row_score(values)), scores(row_score(values))))
    error = row_score(values).seed_error
    assert error is not None
    assert error == pytest.approx(0.05 * np.sqrt(2 / 3 / N), rel=0.15)
    dof = row_score(values).seed_dof
    assert dof is not None
    assert N / 4 < dof <= N - 1
    assert verdict.detectable == detectable_effect(Chance(error, N - 1, dof), 0.02, 1, 0.01, 0.95)


def test_power_is_that_of_the_detectable_effect(rng: np.random.Generator) -> None:
    for margin in (0.0, 2.0):
        chance = Chance(0.3, 40, 12.5, share=0.1)
        effect = detectable_effect(chance, margin, 20, 0.01, 0.9)
        assert effect is not None
        assert power(effect, chance, margin, 20, 0.01) == pytest.approx(0.9, abs=1e-6)


def test_a_change_of_a_hundred_errors_is_as_sure_to_be_blocked_as_one_of_ten() -> None:
    """SciPy's noncentral t is NaN where what it leaves is below the smallest float."""
    for dof in (20.0, 60.5, 120.3, 255.0):
        chance = Chance(0.01, 255, dof)
        blocked = power(np.linspace(0.2, 3.0, 2000), chance, 0.1, 400, 0.01)
        assert np.diff(blocked).min() > -1e-9
        assert blocked[-1] == pytest.approx(1.0, abs=1e-12)
    critical = critical_value(1.0, 5000, 0.01)  # of two clips: there it is NaN where much is missed
    z = np.sqrt(stats.chi2(1).ppf((np.arange(200_000) + 0.5) / 200_000))
    for times in (0.5, 1.01, 1.5, 2.0):
        truth = 1.0 - stats.norm.cdf(critical * z - times * critical).mean()
        assert truth - 1e-3 < power(times * critical, Chance(1.0, 1.0, 1.0), 0.0, 5000, 0.01) < truth + 1e-4


def _one_of_each() -> list[Verdict]:
    key = row_score(np.zeros(3) + 0.5).key
    return [Verdict(key, name, text, blocks=name in ("WORSE", "MISSING", "NOT_FINITE", "INCOMPARABLE")) for name, text in VERDICTS.items()]


def test_outputs_name_every_verdict() -> None:
    verdicts = _one_of_each()
    assert [item.blocks for item in by_severity(verdicts)] == [True] * 4 + [False] * 4
    assert counts(verdicts).count("1 ") == len(VERDICTS)
    text = markdown(verdicts, "runs/a", "base.jsonl")
    assert "blocked" in text
    for name in VERDICTS:
        assert name in text
        assert any(name in sentence(item) for item in verdicts)
    suite = ElementTree.fromstring(junit(verdicts, "runs/a"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "4", "1")
    assert len(suite.findall("testcase")) == 8
    assert {item.get("type") for item in suite.iter("failure")} == {"WORSE", "MISSING", "NOT_FINITE", "INCOMPARABLE"}
