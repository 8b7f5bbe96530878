from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.harness.worlds import save_bundle
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.errors import ConfigError
from tta_bench.harness.examine import Bench, Row, as_frame, degraded, mean_average_precision, paired_differences, recall_at_1
from tta_bench.harness.examine_report import ExamineConfig, examine_bundle
from tta_bench.harness.training import initial_weights
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.score import mean_score
from tta_bench.models.bundle import Embedder, read_card, save_network
from tta_bench.models.embedder import EmbedderShape
from tta_bench.models.text import TextShape, Vocabulary


def test_mean_average_precision() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
    assert mean_average_precision(labels, np.array([[9.0, 0], [1, 9], [8, 1], [0, 2]])) == 1.0
    assert mean_average_precision(labels[:, :1], np.array([[9.0], [8], [7], [0]])) == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision(np.array([[1, 0], [0, 0]]), np.array([[0.0, 1], [1, 0]])) == 0.5  # a class without a hit says nothing


def test_degradations_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    sound = 0.1 * rng.standard_normal(16_000).astype(np.float32)
    for level in (20, 10, 0):
        added = degraded(sound, "noise", f"{level} dB") - sound
        assert 10 * np.log10(np.square(sound).mean() / np.square(added).mean()) == pytest.approx(level, abs=0.3)
    for kilohertz in (4, 2, 1):
        power = np.square(np.abs(np.fft.rfft(degraded(sound, "low-pass", f"{kilohertz} kHz"))))
        above = power[int(1.3 * kilohertz * 1000) :].sum() / power.sum()
        assert above < 2e-3


class Heard:
    def __init__(self, joint: np.ndarray, ids: list[str]) -> None:
        self.joint, self.ids = joint, ids

    def of(self, source: str) -> ClipRows:
        assert source == "joint"
        return ClipRows.of(self.ids, list(self.joint))


def test_recall_counts_clips_of_the_same_scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(tmp_path, 128)
    ids = [f"test-{i:06d}" for i in range(128)]
    text = np.tile(np.eye(64), (2, 1))
    for name, value in (("captions", ClipRows.of(ids, list(text))), ("reference", Heard(text, ids))):
        bench.__dict__[name] = value
    assert recall_at_1(bench) == 1.0
    turned = np.roll(text, 1, axis=0)
    bench.__dict__["reference"] = Heard(turned, ids)
    assert recall_at_1(bench) < 0.1
    bench.__dict__["scenes"] = [bench.scenes[0]] * 128
    assert recall_at_1(bench) == 1.0


def test_swapped_captions_are_another_scenes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 80)
    said: list[list[str]] = []

    class Ear:
        def embed_text(self, captions: list[str]) -> np.ndarray:
            said.append(list(captions))
            return np.ones((len(captions), 2), dtype=np.float32)

    bench.__dict__["embedder"] = Ear()
    own = [clip.caption for clip in bench.clips]
    for share in (0.25, 0.5, 1.0):
        bench.shuffled_captions(share)
        moved = [i for i, text in enumerate(said[-1]) if text != own[i]]
        assert len(moved) == round(80 * share)
        for i in moved:
            assert bench.scenes[own.index(said[-1][i])].key != bench.scenes[i].key


def test_the_page_of_a_small_bundle(tmp_path: Path) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    save_bundle(bundle)
    with initial_weights(0, "embedder"):
        network = Embedder(EmbedderShape(26, 16, 16, (4, 4, 8, 8)), Vocabulary.of(["a dog barks"]), tuple(EVENT_CLASSES), TextShape(16, 1, 2, 32))
    save_network(bundle, "embedder", network, {})
    torch.set_num_threads(1)
    examine_bundle(
        ExamineConfig(bundle=bundle, out=out, clips=64, seeds=(0,), part=("codec", "teacher", "sheet"), teacher_curve=(200, 2), sheet_clips=2)
    )
    page = (out / "README.md").read_text()
    assert "| teacher |  | 2 | 3 | 64 |" in page
    assert (out / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert '"clap_share"' in (out / "teacher.json").read_text()
    assert "scores" not in read_card(bundle, "teacher")  # what is measured stays as it is
    examine_bundle(ExamineConfig(bundle=bundle, out=out, clips=64, seeds=(0,), part=("teacher",), teacher_curve=(2,), note_scores=True))
    assert read_card(bundle, "teacher")["scores"]["steps"] == 2
    with pytest.raises(ConfigError, match="holds no students of 3 steps"):
        examine_bundle(ExamineConfig(bundle=bundle, out=out, part=("students",), student_steps=(3,)))
    with pytest.raises(ConfigError, match="--part tacher: unknown part; known: embedder, codec"):
        examine_bundle(ExamineConfig(bundle=bundle, out=out, part=("tacher",)))


def test_tables_of_weightings() -> None:
    ids = [f"{i:02d}" for i in range(20)]
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(20) for name in ("bsa", "constant")}
    rows = [Row(f"student-{name}-25", name, 25, 3.0, {"kl": mean_score(ids, value)}) for name, value in values.items()]
    frame = as_frame(rows)
    assert frame["value"].tolist() == [pytest.approx(values["bsa"].mean()), pytest.approx(values["constant"].mean())]
    pair = paired_differences(rows, "constant", 25)
    assert pair["value"].tolist() == [pytest.approx((values["bsa"] - values["constant"]).mean())]
    assert pair["ci_low"][0] < pair["value"][0] < pair["ci_high"][0]
