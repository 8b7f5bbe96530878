"""What is installed, what is broken, which weights are there, what can therefore be computed, and the command that mends each gap.

Loads nothing heavy itself: it has to work where numpy or torch do not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import tta_bench
from tta_bench.doctor_probe import Package, probe_all

DISTRIBUTION = "tta-bench"
EXTRAS = ("hf", "yamnet", "events", "train", "reference")  # those that are for users
_LEANING = ("frechet-audio-distance", "laion-clap")  # on the neighbours
_NEIGHBOURS = ("torchvision", "torchaudio")  # nobody needs them but [reference]; broken ones break transformers and diffusers


@dataclass(frozen=True)
class Requirement:
    """name of a distribution, which versions, and the extra that asks for it; "" is the core."""

    name: str
    versions: str
    extra: str


@dataclass(frozen=True)
class Ability:
    """Something that can be computed. lacks: extras as [NAME], weights by name; empty where nothing is missing."""

    kind: Literal["embedder", "system", "metric", "command"]
    name: str
    lacks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.lacks


@dataclass(frozen=True)
class Weights:
    """Weights of the store: "there", "absent" or "damaged"."""

    name: str
    status: str
    needed_by: tuple[str, ...]
    size: int | None


@dataclass(frozen=True)
class Fix:
    """A command, and what it mends."""

    command: str
    mends: str


@dataclass(frozen=True)
class Diagnosis:
    """packages: by extra, "" being the core and "beside" what nobody asked for but matters. problems: of the core, one sentence each."""

    python: str
    packages: dict[str, list[Package]]
    weights: list[Weights]
    abilities: list[Ability]
    fixes: list[Fix]
    problems: list[str] = field(default_factory=list)

    @property
    def core_works(self) -> bool:
        """Whether evaluation, the bundle and reports work."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """JSON-able: the same, with `ok` of the core and of each ability."""
        plain = asdict(self)
        plain["packages"] = {extra or "core": packages for extra, packages in plain["packages"].items()}
        plain["abilities"] = [asdict(item) | {"ok": item.ok} for item in self.abilities]
        return {"tta_bench": tta_bench.__version__, "core_works": self.core_works, **plain}


def diagnose() -> Diagnosis:
    """Look at everything; takes some seconds, and reaches no network."""
    asked = requirements()
    probed = probe_all([*(item.name for item in asked), *_NEIGHBOURS])
    neighbours = [probed[name] for name in _NEIGHBOURS if probed[name].status != "absent"]
    broken = [item.name for item in neighbours if item.status == "broken"]
    probed |= {name: _leaning(probed[name], broken) for name in _LEANING if name in probed}
    packages = {extra: [_versioned(probed[item.name], item) for item in asked if item.extra == extra] for extra in ("", *EXTRAS)}
    problems = [f"{item.name}: {item.reason or 'is not installed'}" for item in packages[""] if item.status != "ok"]
    if not asked:
        problems.append(f"{DISTRIBUTION} is not installed, so that its requirements are unknown")
    missing = _missing_assets()
    if missing:
        problems.append(f"the package's own networks are not there ({missing}); it was installed incompletely")
    weights = [] if problems else _weights()
    lacking = {extra: _lacking(packages[extra]) for extra in EXTRAS}
    abilities = [] if problems else _abilities(lacking, weights)
    packages = {**packages, **({"beside": neighbours} if neighbours else {})}
    python = ".".join(map(str, sys.version_info[:3]))
    return Diagnosis(python, packages, weights, abilities, _fixes(packages, weights, neighbours, problems), problems)


def requirements() -> list[Requirement]:
    """What the installed distribution asks for, extras for users included; empty where it is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        match = re.match(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*([^;]*)(?:;\s*(.*))?$", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if match and match[1] != DISTRIBUTION and (extra is None or extra[1] in EXTRAS):
            found.append(Requirement(match[1].lower(), match[2].strip(" ()"), extra[1] if extra else ""))
    return found


def _leaning(package: Package, broken: Sequence[str]) -> Package:
    """A package that is not imported here, "broken" where what it leans on is."""
    if package.status != "ok" or not broken:
        return package
    return replace(package, status="broken", reason=f"it needs {' and '.join(broken)}, which {'are' if len(broken) > 1 else 'is'} broken")


def _versioned(package: Package, asked: Requirement) -> Package:
    """The package, "broken" where its version is not one that was asked for."""
    if package.status != "ok" or package.version is None or _satisfies(package.version, asked.versions):
        return package
    return replace(package, status="broken", reason=f"version {package.version} is not {asked.versions}")


def _satisfies(version: str, versions: str) -> bool:
    """Whether a version is one of `versions`, e.g. ">=2.11,<2.14"; by its numbers, which is all that this package's requirements need."""
    compare: dict[str, Callable[[list[int], list[int]], bool]] = {
        ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b, "<": lambda a, b: a < b, ">": lambda a, b: a > b,
    }  # fmt: skip
    for operator, bound in re.findall(r"(>=|<=|==|!=|<|>)\s*([\w.*+!-]+)", versions):
        ours, theirs = (([*map(int, re.findall(r"\d+", text.partition("+")[0])), *[0] * 6])[:6] for text in (version, bound))
        if not compare[operator](ours, theirs):
            return False
    return True


def _missing_assets() -> str:
    folder = Path(tta_bench.__file__).parent / "assets"
    return ", ".join(name for name in ("codec", "embedder", "teacher", "text") if not (folder / f"{name}.safetensors").is_file())


def _weights() -> list[Weights]:
    from tta_bench.weights_store import states

    return [Weights(item.entry.name, item.status, item.entry.needed_by, item.entry.size) for item in states()]


def _lacking(packages: Sequence[Package]) -> bool:
    """Whether an extra is not there; one that the installed distribution does not know of is not."""
    return not packages or any(package.status != "ok" for package in packages)


def _abilities(lacking: Mapping[str, bool], weights: Sequence[Weights]) -> list[Ability]:
    """Embedders, metrics, systems and commands with what each lacks. A metric can be computed where some embedder that serves it can."""
    from tta_bench.metrics.suite import METRICS

    absent = {item.name for item in weights if item.status != "there"}

    def lacks(extra: str, needed: Iterable[str]) -> tuple[str, ...]:
        return (*((f"[{extra}]",) if extra and lacking[extra] else ()), *(name for name in needed if name in absent))

    embedders = [Ability("embedder", name, lacks(extra, needed)) for name, (_, extra, needed) in EMBEDDERS.items()]
    working = [item.name for item in embedders if item.ok]
    serving = {source: [name for name, (gives, _, _) in EMBEDDERS.items() if source in gives] for source in ("embeddings", "logits", "joint")}
    metrics = []
    for spec in METRICS.values():
        able = [spec.embedder] if spec.embedder else serving[spec.source]
        served = () if set(able) & set(working) else (f"an embedder: {', '.join(able)}",)
        metrics.append(Ability("metric", spec.name, (*lacks(_METRICS.get(spec.name, ""), ()), *served)))
    systems = [Ability("system", name, lacks(extra, ())) for name, extra in _SYSTEMS.items()]
    commands = [Ability("command", name, lacks(extra, ())) for name, extra in _COMMANDS.items()]
    return [*embedders, *metrics, *systems, *commands]


def _fixes(
    packages: Mapping[str, Sequence[Package]], weights: Sequence[Weights], neighbours: Sequence[Package], problems: Sequence[str]
) -> list[Fix]:
    """Commands, the most pressing first, each once."""
    fixes = []
    broken = [item.name for item in neighbours if item.status == "broken"]
    if broken:
        fixes.append(Fix(f"pip uninstall {' '.join(broken)}", "transformers and diffusers, which these break; only [reference] needs them"))
    bad = [item for item in packages[""] if item.status != "ok"]
    if bad:
        fixes.append(Fix(f"pip install --force-reinstall {DISTRIBUTION}", f"the core: {', '.join(item.name for item in bad)}"))
    elif problems:
        fixes.append(Fix(f"pip install --force-reinstall {DISTRIBUTION}", "the core"))
    for extra in EXTRAS:
        blamed = extra == "hf" and broken and all(item.status != "absent" for item in packages[extra])  # the neighbours' fault
        if _lacking(packages[extra]) and not blamed:
            alone = " (in an environment of its own)" if extra == "reference" else ""
            again = "--force-reinstall " if any(item.status == "broken" for item in packages[extra]) else ""
            fixes.append(Fix(f"pip install {again}'{DISTRIBUTION}[{extra}]'", f"{_PURPOSES[extra]}{alone}"))
    for item in weights:
        if item.status == "damaged":
            fixes.append(Fix(f"tta-bench weights remove {item.name} && tta-bench weights pull {item.name}", ", ".join(item.needed_by)))
        elif item.status == "absent":
            fixes.append(Fix(f"tta-bench weights pull {item.name}", ", ".join(item.needed_by)))
    return fixes


# name: what it gives, the extra it needs, the weights it needs
EMBEDDERS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "mel": (("embeddings",), "", ()),
    "log_mel": (("embeddings",), "", ()),
    "bundled": (("embeddings", "logits", "joint"), "", ()),
    "events": (("embeddings",), "", ()),
    "yamnet": (("embeddings", "logits"), "", ("yamnet",)),
    "vggish": (("embeddings",), "", ("vggish",)),
    "vggish-google": (("embeddings",), "", ("vggish",)),
    "panns-cnn14-16k": (("embeddings", "logits"), "", ("panns-cnn14-16k",)),
    "panns-cnn14-32k": (("embeddings", "logits"), "", ("panns-cnn14-32k",)),
    "clap-laion": (("embeddings", "joint"), "hf", ("clap-630k-audioset-best", "roberta-base")),
    "clap-laion:630k-best": (("embeddings", "joint"), "hf", ("clap-630k-best", "roberta-base")),
    "clap-laion:music_audioset": (("embeddings", "joint"), "hf", ("clap-music-audioset", "roberta-base")),
    "clap-laion:music_speech_audioset": (("embeddings", "joint"), "hf", ("clap-music-speech-audioset", "roberta-base")),
}
_METRICS = {"event_error_rate": "events"}
_SYSTEMS = {"bundle": "", "folder of audio": "", "diffusers pipeline": "hf"}
_COMMANDS = {
    "train, distill": "train",
    "distill --teacher diffusers:PATH": "hf",
    "weights add yamnet.h5": "yamnet",
    "evaluate --backend reference": "reference",
}
_PURPOSES = {
    "hf": "clap-laion, pipelines, their distillation",
    "yamnet": "Google's own yamnet.h5",
    "events": "event_error_rate",
    "train": "train, distill",
    "reference": "evaluate --backend reference",
}
