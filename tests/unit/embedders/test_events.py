"""What the bundled tagger hears in real SynthCaps audio, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.harness.worlds import CAPTIONS
from tta_bench.data.events import EVENT_CLASSES
from tta_bench.data.scene import Event, Scene
from tta_bench.data.synth import render_scene, synth_clip
from tta_bench.embedders.bundled import BundledEmbedder
from tta_bench.embedders.events import EventsEmbedder
from tta_bench.embedders.load import load_embedder
from tta_bench.embedders.protocol import Embedder, pad_batch
from tta_bench.errors import WeightsError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.events import orders
from tta_bench.metrics.suite import METRICS
from tta_bench.models.bundle import Embedder as Network
from tta_bench.models.bundle import save_network
from tta_bench.models.embedder import EmbedderShape
from tta_bench.models.text import Vocabulary

NAMES = list(EVENT_CLASSES)


@pytest.fixture(scope="module")
def embedder() -> EventsEmbedder:
    return EventsEmbedder()


def _places(embedder: EventsEmbedder, *clips: np.ndarray) -> np.ndarray:
    return np.concatenate(embedder.embed(*pad_batch(clips)).embeddings)


def _heard(embedder: EventsEmbedder, *groups: tuple[str, ...], seed: int = 0) -> dict[str, int]:
    scene = Scene(tuple(tuple(Event(name) for name in group) for group in groups))
    places = _places(embedder, render_scene(scene, np.random.default_rng(seed)))[0]
    return {embedder.classes[k]: int(places[k]) for k in orders(places, 0 * places)[0]}


def test_protocol(embedder: EventsEmbedder) -> None:
    assert isinstance(embedder, Embedder)
    assert load_embedder("events").checksum == embedder.checksum != BundledEmbedder().checksum


@pytest.mark.parametrize(("a", "b"), [("bell", "engine"), ("rain", "siren"), ("dog", "guitar")])
def test_order(embedder: EventsEmbedder, a: str, b: str) -> None:
    assert _heard(embedder, (a,), (b,)) == {a: 1, b: 2}
    assert _heard(embedder, (b,), (a,)) == {b: 1, a: 2}
    assert _heard(embedder, (a, b)) == {a: 1, b: 1}


def test_three_in_a_row_and_groups(embedder: EventsEmbedder) -> None:
    assert _heard(embedder, ("horn",), ("rain",), ("bell",)) == {"horn": 1, "rain": 2, "bell": 3}
    assert _heard(embedder, ("horn", "rain"), ("bell",)) == {"horn": 1, "rain": 1, "bell": 2}


def test_captions_have_the_same_places(embedder: EventsEmbedder) -> None:
    rows = embedder.embed_text(["A church bell, then rain falls", "A dog barks while a siren wails, followed by a drum", "A man speaks"])
    found = [{embedder.classes[k]: int(row[k]) for k in orders(row, 0 * row)[0]} for row in rows]
    assert found == [{"bell": 1, "rain": 2}, {"dog": 1, "siren": 1, "drum": 2}, {}]


@pytest.fixture(scope="module")
def real(embedder: EventsEmbedder) -> tuple[ClipRows, ClipRows, list[np.ndarray]]:
    """Captions' and audio's places of test clips, with pairs of classes that the tagger never heard together."""
    clips = [synth_clip(11, "test", i) for i in range(64)]
    ids, audio = [clip.clip_id for clip in clips], [clip.audio for clip in clips]
    return ClipRows.of(ids, list(embedder.embed_text([clip.caption for clip in clips]))), ClipRows.of(ids, list(_places(embedder, *audio))), audio


def test_real_audio_has_few_errors_and_other_captions_many(embedder: EventsEmbedder, real: tuple[ClipRows, ClipRows, list[np.ndarray]]) -> None:
    asked, heard, audio = real
    rate = METRICS["event_error_rate"].score
    assert rate(asked, heard).value < 0.15
    other = ClipRows.of(asked.clip_ids, list(np.roll(asked.matrix(), 1, axis=0)))
    assert rate(other, heard).value > 0.9
    backwards = ClipRows.of(asked.clip_ids, list(_places(embedder, *(samples[::-1].copy() for samples in audio))))
    assert rate(asked, backwards).value > rate(asked, heard).value + 0.2  # the same sounds, more or less, in the other order
    rng = np.random.default_rng(0)
    noisy = [samples + 0.03 * rng.standard_normal(len(samples)).astype(np.float32) for samples in audio]
    assert rate(asked, ClipRows.of(asked.clip_ids, list(_places(embedder, *noisy)))).value > rate(asked, heard).value + 0.1


def test_batch_and_padding_do_not_matter(embedder: EventsEmbedder, real: tuple[ClipRows, ClipRows, list[np.ndarray]]) -> None:
    _, heard, audio = real
    np.testing.assert_array_equal(np.concatenate([_places(embedder, samples) for samples in audio[:8]]), heard.matrix()[:8])
    padded = np.pad(np.stack(audio[:8]), ((0, 0), (0, 5_000)), constant_values=0.7)
    rows = embedder.embed(padded, np.full(8, len(audio[0]))).embeddings
    np.testing.assert_array_equal(np.concatenate(rows), heard.matrix()[:8])


@pytest.mark.parametrize("samples", [1_600, 6_000, 30_000, 100_000, 200_000])
def test_any_length(embedder: EventsEmbedder, samples: int, rng: np.random.Generator) -> None:
    clip = np.tile(synth_clip(0, "val", 3).audio, 5)[:samples]
    places = _places(embedder, clip)
    assert places.shape == (1, 26)
    assert set(places[0][places[0] > 0]) == set(range(1, int(places.max()) + 1))  # no place is empty


def test_silence_holds_no_event_and_long_clips_keep_their_order(embedder: EventsEmbedder) -> None:
    assert not _places(embedder, np.zeros(40_960, dtype=np.float32)).any()
    parts = [render_scene(Scene(((Event(name),),)), np.random.default_rng(1)) for name in ("guitar", "rain", "siren", "guitar")]
    places = _places(embedder, np.concatenate(parts[:3]))[0]
    assert [embedder.classes[k] for k in orders(places, 0 * places)[0]] == ["guitar", "rain", "siren"]


def test_a_tagger_of_other_classes_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path, "embedder", Network(EmbedderShape(2), Vocabulary.of(CAPTIONS), ("bell", "dog")), {})
    with pytest.raises(WeightsError, match="does not know"):
        EventsEmbedder(tmp_path)
