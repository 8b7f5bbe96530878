"""What `tta-bench doctor` finds, with packages made up on the spot: they lie in a folder that comes first on the path."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import ROOT
from tta_bench import doctor, doctor_probe, doctor_report
from tta_bench.doctor_probe import Package, probe, reason_of
from tta_bench.embedders import load

BROKEN_VISION = "raise RuntimeError('operator torchvision::nms does not exist')"
BROKEN_AUDIO = "raise OSError('libc10_cuda.so: cannot open shared object file: No such file or directory')"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def _install(site: Path, name: str, code: str | None = "", version: str = "1.0", requires: tuple[str, ...] = ()) -> None:
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    asked = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{asked}")
    if code is not None:
        (site / f"{module}.py").write_text(code + "\n")


def test_a_package_that_works(site: Path) -> None:
    _install(site, "fine-package", "import json", "2.3")
    assert probe("fine-package") == Package("fine-package", "2.3", "ok")
    assert probe("no-such-package").status == "absent"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (BROKEN_VISION, "torchvision was built for another PyTorch, or for CUDA where PyTorch is a CPU build"),
        (BROKEN_AUDIO, "CUDA mismatch: it was built for CUDA, PyTorch here was not (libc10_cuda.so is missing)"),
        ("raise OSError('libsndfile.so.1: cannot open shared object file')", "the library libsndfile.so.1 is missing"),
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", "CUDA's library libcudart.so.13 is missing"),
        ("import a_module_that_nobody_has", "it needs the module a_module_that_nobody_has, which is not installed"),
        ("raise ValueError('odd\\n  setting.')", "ValueError: odd setting"),
        ("raise KeyError", "KeyError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "its import crashes the process (SIGSEGV)"),
        ("import os; print('{}', flush=True); os._exit(3)", "its import ends the process with code 3"),
        ("import os; print('[1', flush=True); os._exit(3)", "its import ends the process with code 3"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_a_broken_package_and_why(site: Path, code: str, reason: str) -> None:
    _install(site, "wreck", code)
    found = probe("wreck")
    assert (found.status, found.version, found.reason) == ("broken", "1.0", reason)
    assert "wreck" not in sys.modules


def test_what_a_package_prints_does_not_matter(site: Path) -> None:
    _install(site, "chatty", "import sys; print('{\"error\": [1, 2]}'); print('hm', file=sys.stderr)")
    assert probe("chatty").status == "ok"


def test_an_import_that_does_not_end(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(site, "endless", "import threading; threading.Event().wait()")
    monkeypatch.setattr(doctor_probe, "_TIMEOUT_S", 1.0)
    assert probe("endless").reason == "its import did not end within 1 s"


def test_parts_that_packages_import_late(site: Path) -> None:
    lazy = "def __getattr__(name):\n    import torchvision\n"
    _install(site, "torchvision", BROKEN_VISION)
    _install(site, "transformers", lazy)
    assert probe("transformers").reason.startswith("torchvision was built for another PyTorch")


def test_reasons_are_short() -> None:
    assert len(reason_of("OSError", "long " * 1000)) < 200
    assert reason_of("RuntimeError", "PyTorch and torchaudio were compiled with different CUDA versions. PyTorch has 13") == (
        "CUDA mismatch: PyTorch and torchaudio were compiled for different CUDA versions"
    )


@pytest.mark.parametrize(
    ("version", "versions", "fits"),
    [
        ("2.13.0+cpu", ">=2.11,<2.14", True), ("2.14.0", ">=2.11,<2.14", False), ("2.9", ">=2.11", False), ("1.7", ">=1.7.0", True),
        ("0.3.4", "==0.3.4", True), ("0.3.5", "==0.3.4", False), ("3", "", True), ("1.18.0", "<1.18", False), ("1.5", "!=1.5", False),
    ],
)  # fmt: skip
def test_versions(version: str, versions: str, fits: bool) -> None:
    assert doctor._satisfies(version, versions) is fits


def test_the_tables_follow_the_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"test", "dev", "ray"}  # nothing uses Ray yet
    assert {name.partition(":")[0] for name in doctor.EMBEDDERS} == set(load.EMBEDDERS)
    assert {f"clap-laion:{name}" for name in load.CLAP_CHECKPOINTS} - set(doctor.EMBEDDERS) == {"clap-laion:630k-audioset-best"}
    from tta_bench.embedders import bundled, clap, events, log_mel, mel, panns, vggish, yamnet

    classes = {"bundled": bundled.BundledEmbedder, "events": events.EventsEmbedder, "clap-laion": clap.ClapEmbedder,
               "mel": mel.MelEmbedder, "log_mel": log_mel.LogMelEmbedder,
               "panns-cnn14-16k": panns.PannsEmbedder, "vggish": vggish.VggishEmbedder, "yamnet": yamnet.YamnetEmbedder}  # fmt: skip
    for name, made in classes.items():
        assert set(doctor.EMBEDDERS[name][0]) == made.provides, name


def _doctor(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a child, where `wget` and connections leave a mark."""
    (site / "sitecustomize.py").write_text(
        f"import socket\ndef connect(*a): open({str(site / 'reached')!r}, 'w'); raise OSError('no network')\nsocket.socket.connect = connect\n"
    )
    (site / "bin").mkdir()
    (site / "bin" / "wget").write_text(f"#!/bin/sh\ntouch {site / 'reached'}\n")
    (site / "bin" / "wget").chmod(0o755)
    path = {"PATH": f"{site / 'bin'}:{os.environ['PATH']}", "HOME": str(site), "PYTHONPATH": f"{site}:{ROOT}"}
    code = "from tta_bench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments], cwd=site, env=os.environ | path | environment, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    assert not (site / "reached").exists(), "nothing reaches the network"
    return done


def test_a_machine_with_broken_neighbours_and_absent_extras(site: Path) -> None:
    _install(site, "torchvision", BROKEN_VISION, "0.27")
    _install(site, "torchaudio", BROKEN_AUDIO, "2.11")
    _install(site, "transformers", "def __getattr__(name):\n    import torchvision\n", "5.1")
    _install(site, "panns-inference", "import os; os.system('wget x')", "0.1.1")
    _install(site, "laion-clap", "import os; os.system('wget x')", "1.1.7")
    hf, reference = "; extra == 'hf'", "; extra == 'reference'"
    asked = ("numpy>=1.26", "rich", f"transformers>=5{hf}", f"no-such-package{reference}", f"panns-inference==0.1.1{reference}",
             f"laion-clap==1.1.7{reference}", "ruff; extra == 'dev'")  # fmt: skip
    _install(site, "tta-bench", None, "0.1.0", asked)
    done = _doctor(site, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["core_works"] is True
    states = {item["name"]: (item["status"], item["reason"]) for packages in found["packages"].values() for item in packages}
    assert set(states) == {"numpy", "rich", "transformers", "no-such-package", "panns-inference", "laion-clap", "torchvision", "torchaudio"}
    assert {name for name, (status, _) in states.items() if status == "broken"} == {"transformers", "laion-clap", "torchvision", "torchaudio"}
    assert states["laion-clap"][1] == "it needs torchvision and torchaudio, which are broken"
    assert states["no-such-package"][0] == "absent"
    lacks = {(item["kind"], item["name"]): item["lacks"] for item in found["abilities"]}
    assert lacks["embedder", "bundled"] == lacks["metric", "fad"] == lacks["system", "bundle"] == []
    assert lacks["embedder", "yamnet"] == ["yamnet"]
    assert lacks["embedder", "clap-laion"] == ["[hf]", "clap-630k-audioset-best", "roberta-base"]
    assert lacks["system", "diffusers pipeline"] == ["[hf]"]
    commands = [item["command"] for item in found["fixes"]]
    assert commands[0] == "pip uninstall torchvision torchaudio"
    assert "pip install 'tta-bench[hf]'" not in commands, "its packages are there; what breaks them has to go"
    assert {"pip install --force-reinstall 'tta-bench[reference]'", "pip install 'tta-bench[yamnet]'", "tta-bench weights pull vggish"} <= set(
        commands
    )
    assert len(commands) == len(set(commands))


@pytest.mark.parametrize(
    ("code", "version", "says"),
    [
        ("raise ImportError('libopenblas.so.0: cannot open shared object file')", "2.0", "numpy: the library libopenblas.so.0 is missing"),
        ("__version__ = '1.20'", "1.20", "numpy: version 1.20 is not >=1.26"),
    ],
)
def test_a_broken_core_ends_with_2(site: Path, code: str, version: str, says: str) -> None:
    _install(site, "numpy", code, version)
    _install(site, "tta-bench", None, "0.1.0", ("numpy>=1.26", "rich"))
    done = _doctor(site)
    assert done.returncode == 2, done.stderr
    assert f"core: {says}" in done.stdout
    assert "the core does not work" in done.stdout
    assert "pip install --force-reinstall tta-bench" in done.stdout


def _shown(found: doctor.Diagnosis, monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    out = io.StringIO()
    monkeypatch.setattr(doctor_report, "console", lambda: Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False))
    doctor_report.print_diagnosis(found)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_the_tables_fit(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    reason = reason_of("OSError", "libc10_cuda.so: cannot open shared object file")
    lacks = ("[hf]", "clap-music-speech-audioset", "roberta-base")
    found = doctor.Diagnosis(
        "3.11.7",
        {
            "": [Package("torch", "2.13.0+cpu", "ok", facts={"cuda": None, "devices": []})],
            "hf": [],
            "beside": [Package("torchaudio", "2.11.0", "broken", reason)],
        },
        [doctor.Weights("clap-music-speech-audioset", "absent", ("clap-laion",), 2_352_471_003)],
        [doctor.Ability("embedder", "mel"), doctor.Ability("embedder", "clap-laion:music_speech_audioset", lacks), doctor.Ability("metric", "clap")],
        [doctor.Fix("tta-bench weights pull clap-music-speech-audioset", "clap-laion")],
    )
    text = _shown(found, monkeypatch, width)
    for line in text.splitlines():
        assert len(line.rstrip()) <= width or "# " in line, line
    for word in (*reason.split(), "PyTorch", "2.13.0+cpu", "2,352", *lacks, "clap-laion", "torchaudio"):
        assert word in text, word
    assert "  tta-bench weights pull clap-music-speech-audioset #" in text
    assert "the core works" in text
