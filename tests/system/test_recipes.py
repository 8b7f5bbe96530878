"""Configurations that reproduce papers are complete and parse; numbers that papers print are the report's."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.system.refusal import Shell
from tta_bench.config import parse_settings
from tta_bench.data.audiocaps import LISTS
from tta_bench.embedders.load import EMBEDDERS
from tta_bench.harness.distill_run import DistillConfig
from tta_bench.harness.recipe import DitarRecipe, parse_training
from tta_bench.harness.run_config import RunConfig

RECIPES = sorted((ROOT / "baselines").glob("audiocaps-*.toml"))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_complete(shell: Shell, recipe: Path) -> None:
    for name in LISTS:
        code, out, err = shell(f"run --config {recipe} --list {name} --show-config")
        assert code == 0, err
        config = RunConfig.model_validate(tomllib.loads(out))
        assert config.clips.list == name
        assert config.clips.manifest is not None
    assert {spec.partition(":")[0] for spec in config.embedders} <= set(EMBEDDERS)
    assert {"vggish", "panns-cnn14-16k", "clap-laion:630k-audioset-best"} <= set(config.embedders)
    assert {"fad", "kl", "is", "clap"} <= set(config.metrics)
    teacher, *students = config.systems
    assert teacher.steps == (200, 100, 50, 25)
    assert [student.name for student in students] == ["constant", "truncated_snr", "snr_plus_one", "min_snr", "bsa"]
    for student in students:
        assert student.pipeline is not None
        assert f"/student-{student.name}-{{steps}}" in student.pipeline
        assert student.steps == (100, 50, 25)
    assert config.target_system == teacher
    assert teacher.samplers == ("ddim", "own", "dpmpp_2m")  # students walk DDIM's grid, and fidelity is to the first
    assert config.baseline == "constant"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_students_are_distilled_as_the_recipe_runs_them(recipe: Path) -> None:
    """What README tells to type is a distillation of the recipe's teacher, at its guidance scale, into its folder."""
    config = RunConfig.model_validate(tomllib.loads(recipe.read_text()))
    text = (ROOT / "baselines" / "README.md").read_text()
    step = text[text.index("6. **Distil**") : text.index("7. **Run**")]
    assert f"diffusers:{config.systems[0].pipeline}" in step
    assert config.guidance_scales == ({"declare-lab/tango": 3.0, "cvssp/audioldm-m-full": 2.5}[str(config.systems[0].pipeline)],)
    assert {f"{student.pipeline}".rpartition("/")[0] for student in config.systems[1:]} <= set(re.findall(r"students/\w+", step))
    command = re.search(r"tta-bench distill (.*?)\n   ```", step, re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", " "))
    values = {words[i].lstrip("-").replace("-", "_"): words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}
    values |= {"steps": [int(count) for count in values["steps"].split(",")], "gradient_checkpointing": True}
    assert parse_settings(DistillConfig, values, "README").export_guidance == 3.0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_what_a_run_costs_is_told(recipe: Path) -> None:
    """Evaluations, hours, rows and their audio, counted again from the recipe."""
    config = RunConfig.model_validate(tomllib.loads(recipe.read_text()))
    teacher, *students = config.systems
    calls = sum(teacher.steps) * len(teacher.samplers) * 2
    others = sum(sum(student.steps) for student in students)
    rows = sum(len(system.steps) * len(system.samplers) for system in config.systems)
    text = (ROOT / "baselines" / "README.md").read_text()
    hours = round((calls + others) * len(config.seeds) * 964 / 25 / 3600)
    assert f"({calls} + {others}) x 964 clips | {hours} h |" in text
    assert f"13 + 5 x 26 + {hours} = {13 + 5 * 26 + hours}" in text
    counted = re.search(r"A run keeps\s+(\d+) rows .*: (\d+) GB", text)
    assert counted is not None
    assert counted.groups() == (str(rows), str(math.ceil(rows * 964 * 10.24 * 32_000 / 1e9)))


def test_there_is_a_recipe_for_each_teacher() -> None:
    assert [path.stem for path in RECIPES] == ["audiocaps-bsa-audioldm", "audiocaps-bsa"]


def test_the_tables_of_ditar_are_of_the_networks_that_the_ablation_makes() -> None:
    """One budget for all of them, and README's loop makes each that the run asks for."""
    ablation = parse_training(tomllib.loads((ROOT / "baselines" / "ditar-ablation.toml").read_text()), "ablation")
    assert isinstance(ablation.teacher, DitarRecipe)
    loop = re.search(r"for seed in (.*?); do for sizes in (.*?); do", (ROOT / "baselines" / "README.md").read_text())
    assert loop is not None
    sizes = [pair.split() for pair in shlex.split(loop[2])]
    made = {f"runs/ditar-p{patch}-h{history}-seed{seed}" for patch, history in sizes for seed in loop[1].split()}
    tables = RunConfig.model_validate(tomllib.loads((ROOT / "baselines" / "ditar-tables.toml").read_text()))
    assert {str(system.bundle) for system in tables.systems} == made
    for system in tables.systems:
        patch, history, seed = re.fullmatch(r"p(\d+) h(\d+) s(\d+)", system.name).groups()  # type: ignore[union-attr]
        assert str(system.bundle) == f"runs/ditar-p{patch}-h{history}-seed{seed}"
    assert {"event_error_rate", "diversity", "clap_audio"} <= set(tables.metrics)
    assert parse_training(tomllib.loads((ROOT / "baselines" / "ditar.toml").read_text()), "ditar").family == "ditar"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--quick --list test", ["clips.list go with clips.manifest"]),
        ("--config c.toml --list small", ["m.csv", "list 'small': is no column", "found: file, caption"]),
    ],
)
def test_lists_that_a_run_does_not_have(shell: Shell, options: str, says: list[str]) -> None:
    (shell.folder / "m.csv").write_text("file,caption\na.wav,x\n")
    (shell.folder / "c.toml").write_text('[clips]\nmanifest = "m.csv"\n')
    shell.refuses(f"run {options}", says)


def test_published_numbers_are_the_reports() -> None:
    """The package has a copy of its own, since `baselines/` is not installed."""
    shipped = resources.files("tta_bench.report").joinpath("published.csv").read_bytes()
    assert (ROOT / "baselines" / "published.csv").read_bytes() == shipped
    assert shipped.startswith(b"system,steps,nfe,fad,")


@pytest.mark.shared
def test_published_numbers_are_those_that_were_gathered(shared: Path) -> None:
    assert (ROOT / "baselines" / "published.csv").read_bytes() == (shared / "reference" / "published.csv").read_bytes()
