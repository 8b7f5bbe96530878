"""`evaluate --backend reference`: the packages' own numbers, and none where they would give -1 or another set's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import laion_clap
import numpy as np
import pytest
import torch
from frechet_audio_distance import FrechetAudioDistance

import tta_bench
from tests.reference.conftest import write_clips
from tests.reference.world import REPOSITORY
from tests.unit.embedders.published import roberta_files
from tta_bench.audio import read_audio, write_audio
from tta_bench.embedders.panns import PannsEmbedder
from tta_bench.embedders.protocol import pad_batch
from tta_bench.errors import AudioError, ConfigError, InputError, MetricError, WeightsError
from tta_bench.files import sha256_file
from tta_bench.harness.evaluate import Evaluation
from tta_bench.metrics.frechet import frechet_distance
from tta_bench.records import Record, read_records

Clips = dict[str, np.ndarray]


@pytest.fixture
def sides(clips: Clips, tmp_path: Path) -> Path:
    """tmp_path with `reference`, `generated` and `captions.csv`; six clips of at most 3 s each."""
    short = {name: samples for name, samples in clips.items() if 48_000 < len(samples) <= 3 * 48_000}
    write_clips(tmp_path / "reference", short)
    write_clips(tmp_path / "generated", short, noise=0.05)
    rows = [f"{name},sound {'low' if i % 2 else 'high'} {i}" for i, name in enumerate(short)]
    (tmp_path / "captions.csv").write_text("\n".join(["clip_id,caption", *rows]) + "\n")
    return tmp_path


def _evaluate(folder: Path, *embedders: str, **options: Any) -> Evaluation:
    return tta_bench.evaluate(folder / "generated", folder / "reference", embedders=embedders, backend="reference", out=folder / "run", **options)


def _records(folder: Path) -> list[Record]:
    return read_records(folder / "run" / "records.jsonl")


def test_vggish_is_what_the_package_scores(sides: Path, hub: Path) -> None:
    before = {path: sha256_file(path) for path in hub.rglob("*") if path.is_file()}
    result = _evaluate(sides, "vggish")
    (record,) = result.records
    package = FrechetAudioDistance(ckpt_dir=str(hub), model_name="vggish")
    assert record.value == pytest.approx(package.score(str(sides / "reference"), str(sides / "generated")), rel=1e-9)
    assert record.protocol == "fad_vggish@frechet-audio-distance-0.3.4"
    assert (record.metric, record.embedder, record.n, record.n_reference) == ("fad", "reference-vggish", 5, 5)
    assert (record.std_error, record.ci_low, record.ci_high) == (None, None, None)
    assert {path: sha256_file(path) for path in before} == before
    assert _records(sides) == [record]
    assert json.loads((sides / "run" / "environment.json").read_text())["reference_packages"]["laion-clap"] == "1.1.7"
    again = _evaluate(sides, "vggish", metrics=["fad"])
    assert (again.reused, again.records, _records(sides)) == (1, [record], [record])


def test_stands_beside_our_own(sides: Path, hub: Path) -> None:
    """Both count: what one writes never takes the other's place."""
    file = hub / "checkpoints" / "vggish-10086976.pth"
    (theirs,) = _evaluate(sides, f"vggish:{file}").records
    ours = tta_bench.evaluate(sides / "generated", sides / "reference", embedders=[f"vggish:{file}"], metrics=["fad"], out=sides / "run")
    assert ours.records[0].value == pytest.approx(theirs.value, rel=0.05)  # another resampler
    assert _records(sides) == [theirs, *ours.records]
    assert _evaluate(sides, f"vggish:{file}").reused == 1
    assert len(_records(sides)) == 2


def test_panns_rows_stay_rows(sides: Path, hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of its own accord the package scores -1."""
    package = FrechetAudioDistance(ckpt_dir=str(hub), model_name="pann", sample_rate=16_000)
    assert package.score(str(sides / "reference"), str(sides / "generated")) == -1
    capsys.readouterr()
    (record,) = _evaluate(sides, "panns-cnn14-16k").records
    assert record.protocol == "fad_pann_16k_rows@frechet-audio-distance-0.3.4"
    embedder, rows = PannsEmbedder(hub / "Cnn14_16k_mAP%3D0.438.pth"), []
    from frechet_audio_distance.utils import load_audio_task

    for side in ("reference", "generated"):
        audio = [load_audio_task(str(path), 16_000, 1) for path in sorted((sides / side).iterdir())]
        rows.append(np.concatenate([package.get_embeddings([samples], 16_000).reshape(1, 2048) for samples in audio]))
        ours = np.concatenate(embedder.embed(*pad_batch([samples for samples in audio if len(samples) >= 32_000])).embeddings)
        theirs = rows[-1][[i for i, samples in enumerate(audio) if len(samples) >= 32_000]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.max())
    assert record.value == pytest.approx(frechet_distance(*rows), rel=1e-4)  # the package's root of a singular product is that good


def test_clap_is_what_the_packages_score(sides: Path, clips: Clips, hub: Path) -> None:
    fad, clap = _evaluate(sides, "clap-laion", captions=sides / "captions.csv").records
    package = FrechetAudioDistance(ckpt_dir=str(hub), model_name="clap", sample_rate=48_000)
    assert fad.value == pytest.approx(package.score(str(sides / "reference"), str(sides / "generated")), rel=1e-9)
    audio = package.model.get_audio_embedding_from_filelist([str(path) for path in sorted((sides / "generated").iterdir())])
    captions = [line.partition(",")[2] for line in (sides / "captions.csv").read_text().splitlines()[1:]]
    assert clap.value == pytest.approx(float((audio * package.model.get_text_embedding(captions)).sum(axis=1).mean()), abs=1e-6)
    assert clap.protocol == "clap_score_first_10_s@laion-clap-1.1.7"
    assert clap.captions_sha256 is not None
    # a clip beyond 10 s counts with its first 10 s, whatever the state of numpy's generator
    write_audio(sides / "generated" / "clip02.flac", clips["clip11"], 48_000)
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        found.append(_evaluate(sides, "clap-laion", captions=sides / "captions.csv", metrics=["clap"]).records[0].value)
        shutil.rmtree(sides / "run")
    write_audio(sides / "generated" / "clip02.flac", clips["clip11"][:480_000], 48_000)
    found.append(_evaluate(sides, "clap-laion", captions=sides / "captions.csv", metrics=["clap"]).records[0].value)
    assert found[0] == found[1] == found[2]


def test_bad_files_stop_or_are_left_out(sides: Path) -> None:
    """The package would score what it had embedded by then, or -1."""
    (sides / "generated" / "clip02.flac").write_bytes(b"fLaC broken")
    write_audio(sides / "reference" / "clip03.flac", np.ones(20_000, np.float32) / 2, 48_000)
    with pytest.raises(AudioError, match=r"clip03\.flac: lasts 0\.417 s, embedder vggish needs 0\.975 s"):
        _evaluate(sides, "vggish")
    result = _evaluate(sides, "vggish", skip_bad=True)
    assert list(result.generated.embedded.excluded) == ["clip02"]
    assert list(result.reference.embedded.excluded) == ["clip03"]
    (record,) = result.records
    assert (record.n, record.n_excluded, record.n_reference, record.n_reference_excluded) == (4, 1, 4, 1)


def test_a_clip_that_the_package_drops_is_an_error(sides: Path, hub: Path, tmp_path: Path) -> None:
    """Whatever goes wrong inside it, it prints, and scores the clips before."""
    broken = tmp_path / "hub"
    shutil.copytree(hub / REPOSITORY, broken / REPOSITORY)
    (broken / "checkpoints").mkdir()
    (broken / "checkpoints" / "vggish-10086976.pth").symlink_to(hub / "checkpoints" / "vggish-10086976.pth")
    code = broken / REPOSITORY / "hubconf.py"
    code.write_text(code.read_text().replace("assert rate == 16_000", "if len(samples) == 48_000: raise MemoryError('no room')"))
    before = torch.hub.get_dir()
    package = FrechetAudioDistance(ckpt_dir=str(broken), model_name="vggish")
    torch.hub.set_dir(before)
    silent = package.score(str(sides / "reference"), str(sides / "generated"))
    assert silent not in (-1, pytest.approx(FrechetAudioDistance(ckpt_dir=str(hub)).score(str(sides / "reference"), str(sides / "generated"))))
    with pytest.raises(InputError, match=r"clip05\.flac: the reference package cannot embed it .*no room"):
        _evaluate(sides, f"vggish:{broken}")
    assert torch.hub.get_dir() == before
    assert _records(sides) == []


def test_captions_that_become_one_are_an_error(sides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roberta_files(tmp_path / "small")
    tokeniser = laion_clap.hook.RobertaTokenizer
    small = tokeniser.from_pretrained(str(tmp_path / "small"))
    monkeypatch.setattr(tokeniser, "from_pretrained", lambda *_, **__: small)
    with pytest.raises(WeightsError, match="has 271 words and not 50265"):
        _evaluate(sides, "clap-laion", captions=sides / "captions.csv", metrics=["clap"])


def test_silence_scores_but_never_minus_one(sides: Path) -> None:
    """Identical silent clips have no covariance at all: the package's distance is then that of the means, and it says what it added."""
    for path in (sides / "generated").iterdir():
        write_audio(path, np.zeros(48_000, np.float32), 48_000)
    try:
        (record,) = _evaluate(sides, "vggish").records
    except MetricError as error:
        pytest.fail(str(error))
    assert record.status != "ok" or (record.value is not None and record.value > 0)
    assert read_audio(sides / "generated" / "clip02.flac").samples.max() == 0


@pytest.mark.parametrize(
    ("embedder", "options", "error", "words"),
    [
        ("yamnet", {}, ConfigError, "have no 'yamnet'; name vggish, panns-cnn14-16k"),
        ("vggish", {"metrics": ["kad"]}, ConfigError, "--metric kad: the reference packages compute fad and clap"),
        ("vggish", {"metrics": ["clap"]}, InputError, "give them with --captions"),
        ("vggish:absent.pth", {}, WeightsError, "absent.pth: does not exist"),
        ("clap-laion:mine.pt", {}, InputError, "tells its networks apart by the file's name"),
        ("clap-laion:music_speech_audioset", {}, WeightsError, "tta-bench weights pull clap-music-speech-audioset"),
    ],
)
def test_refusals(sides: Path, embedder: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        _evaluate(sides, embedder, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _records(sides) == []


def test_checkpoints_are_read_safely(sides: Path, tmp_path: Path) -> None:
    """laion-clap itself would run what is in the file."""

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"module.a": torch.zeros(1)}, "code": Code()}, tmp_path / "630k-best.pt")
    with pytest.raises(WeightsError, match="--trust-pickle"):
        _evaluate(sides, f"clap-laion:{tmp_path / '630k-best.pt'}")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "630k-best.pt").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(WeightsError, match="cut off or damaged"):
        _evaluate(sides, f"clap-laion:{tmp_path / '630k-best.pt'}")
