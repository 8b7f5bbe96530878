"""With the field's own evaluators and a pipeline, offline, on random weights in the official layouts: from a download to a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.system.refusal import Shell
from tests.unit.embedders.published import clap_file, clap_network, panns_file, roberta_files, vggish_file
from tests.unit.served import Server, file, serving
from tests.unit.systems.pipelines import CAPTIONS, audioldm
from tta_bench.audio import read_audio, write_audio
from tta_bench.files import sha256_file
from tta_bench.systems.diffusers import load_diffusers
from tta_bench.systems.hf import quiet

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
CLIPS, AUDIO_S = 6, 1.0


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def _clips(folder: Path) -> None:
    """clips.csv and audio: tones of one second."""
    rng = np.random.default_rng(0)
    rows = [("clip_id", "file", "caption")]
    for i in range(CLIPS):
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 2000) * np.arange(round(16_000 * AUDIO_S)) / 16_000)
        write_audio(folder / "audio" / f"{i}.flac", tone, 16_000)
        rows.append((f"clip{i}", f"{i}.flac", f"{CAPTIONS[i % len(CAPTIONS)]} {i}"))
    with (folder / "clips.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def _published(folder: Path) -> dict[str, list[Path]]:
    """Files by the name of their weights."""
    words = roberta_files(folder / "roberta")
    return {
        "vggish": [vggish_file(folder / "vggish-10086976.pth")],
        "panns-cnn14-16k": [panns_file(folder / "Cnn14_16k_mAP=0.438.pth")],
        "clap-630k-best": [clap_file(folder / "630k-best.pt", clap_network(words))],
        "roberta-base": [folder / "roberta" / "vocab.json", folder / "roberta" / "merges.txt"],
    }


def _pipeline(folder: Path) -> None:
    """A tiny AudioLDM at the same hop as the real one, 10 ms, so that a second is short."""
    parts = audioldm(folder, rates=(16, 10))
    parts.vocoder.conv_post.weight.data.mul_(0.05)
    with quiet():
        parts.save_pretrained(folder / "audioldm")


RUN = f"""
out = "runs/path"
seeds = [0]
guidance_scales = [3.0]
embedders = ["vggish", "panns-cnn14-16k", "clap-laion:630k-best", "log_mel"]
metrics = ["fad", "kad", "kl", "is_1_split", "clap", "fidelity_mel"]
timing_repeats = 0
batch_size = 3
[clips]
manifest = "clips.csv"
folder = "audio"
[[systems]]
name = "teacher"
pipeline = "audioldm"
audio_s = {AUDIO_S}
steps = [4]
samplers = ["own", "dpmpp_2m"]
[[systems]]
name = "bsa"
pipeline = "students/student-bsa-{{steps}}"
audio_s = {AUDIO_S}
steps = [2, 1]
"""


def test_from_a_download_to_a_report(shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pull, verify, distil 4 -> 2 -> 1, run with VGGish, PANNs and CLAP, report; the students run in stock diffusers to the same audio."""
    root = shell.folder
    _clips(root)
    _pipeline(root)
    for name, paths in _published(root).items():
        for path in paths:
            server.answers[f"/{path.name}"] = file(path.read_bytes())
            known = "" if name == "clap-630k-best" else f" --sha256 {sha256_file(path)}"  # of that one no hash is published: trust on first use
            how = f"pull {name} --address {server.url(f'/{path.name}')}" if len(paths) == 1 else f"add '{path}' --name {name}"
            code, out, err = shell(f"weights {how}{known}")
            assert code == 0, (out, err)
    code, out, _ = shell("weights verify")
    assert code == 0
    assert out.count("as it was added") == 4

    distil = "distill --teacher diffusers:audioldm --weighting bsa --steps 4,2,1 --out students --data clips.csv --folder audio --device cpu"
    code, out, err = shell(f"{distil} --clip-s {AUDIO_S} --updates 2 --guided-updates 2 --batch 2 --export-guidance 3")
    assert code == 0, err
    assert "student-bsa-2, student-bsa-1" in out

    (root / "run.toml").write_text(RUN)
    code, out, err = shell("run --config run.toml")
    assert code == 0, (out, err)
    records = [json.loads(line) for line in (root / "runs/path/records.jsonl").read_text().splitlines()]
    found = {(record["system"], record["sampler"], record["steps"], record["metric"], record["embedder"]) for record in records}
    for row in (("teacher", "own", 4), ("teacher", "dpmpp_2m", 4), ("bsa", "own", 2), ("bsa", "own", 1)):
        for score in (("fad", "vggish"), ("kl", "panns-cnn14-16k"), ("clap", "clap-laion-630k-best")):
            assert (*row, *score) in found
        assert ((*row, "fidelity_mel", "log_mel") in found) == (row != ("teacher", "own", 4)), "to the target"
    assert all(record["status"] == "ok" for record in records), [record for record in records if record["status"] != "ok"]
    assert {record["nfe"] for record in records if record["system"] == "bsa"} == {2, 1}
    assert {record["nfe"] for record in records if record["system"] == "teacher"} == {8}
    page = (root / "runs/path/report/index.html").read_text()
    assert "clap-laion-630k-best" in page
    assert "student" in (root / "runs/path/systems.json").read_text()

    from diffusers import AudioLDMPipeline

    cells = {record["cell"]: record for record in records if record["system"] == "bsa"}
    for cell, record in cells.items():
        place = root / "students" / f"student-bsa-{record['steps']}"
        noise = load_diffusers(str(place), audio_s=AUDIO_S).noise("clip0", 0)
        stock = AudioLDMPipeline.from_pretrained(place)
        stock.set_progress_bar_config(disable=True)
        import torch

        arguments = {"num_inference_steps": record["steps"], "guidance_scale": 1.0, "audio_length_in_s": AUDIO_S}
        theirs = stock(f"{CAPTIONS[0]} 0", latents=torch.from_numpy(noise)[None], **arguments).audios[0]
        ours = read_audio(root / "runs/path/cells" / cell / "audio" / "clip0.flac").samples
        np.testing.assert_allclose(ours, theirs.clip(-1, 1), atol=1e-5 + 0.5 / 32768)  # 16 bit

    code, again, err = shell("run --config run.toml")
    assert code == 0
    assert "0 new" in again
