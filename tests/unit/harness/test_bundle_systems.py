"""The networks that ship with the package, as a run without a configuration takes them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tta_bench
from tta_bench.errors import ConfigError
from tta_bench.harness.bundle_systems import bundle_systems
from tta_bench.harness.bundled import located
from tta_bench.harness.run_config import resolve_run
from tta_bench.models.bundle import assets, load_network, read_card
from tta_bench.models.ditar import LocDiT, PatchLM
from tta_bench.systems.protocol import Clip


@pytest.mark.parametrize("quick", [False, True])
def test_both_families_are_in_it_with_the_step_counts_of_their_students(quick: bool) -> None:
    config = resolve_run({}, "run", "bundle", quick)
    assert config.target_system.name == "teacher"
    names = {system.name for system in config.systems}
    assert {"teacher", "guided", "constant", "bsa", "ditar teacher", "ditar guided", "ditar constant", "ditar bsa"} <= names
    for system in config.systems:
        for steps in system.steps:
            card = read_card(*located(str(system.network).replace("{steps}", str(steps))))
            assert card["kind"] == ("locdit" if system.name.startswith("ditar ") else "denoiser")
            assert "{steps}" not in str(system.network) or (card["steps"], card["weighting"]) == (steps, system.name.split()[-1])
    streamed = {system.name for system in config.systems if system.streaming_batches}
    assert streamed == (set() if quick else {"bsa", "ditar bsa"})
    assert len(bundle_systems(quick)) == len(config.systems)


def test_ditar_takes_little_room_and_its_cards_tell_no_place() -> None:
    files = sorted((assets() / "ditar").iterdir())
    assert sum(path.stat().st_size for path in files) <= 15e6
    assert {path.stem for path in files if path.suffix == ".json"} == {path.stem for path in files if path.suffix == ".safetensors"}
    for path in files:
        if path.suffix == ".json":
            assert not re.search(r'"/|/work|/tmp|home', path.read_text())
    lm, _ = load_network(assets() / "ditar", "lm", PatchLM)
    teacher, card = load_network(assets() / "ditar", "teacher", LocDiT)
    assert (lm.shape.patch, teacher.shape.patch, teacher.shape.history) == (4, 4, 8)
    assert card["recipe"]["updates"] >= 1000


def test_temperature_from_python() -> None:
    made = tta_bench.load_system("ditar/student-bsa-1", temperature=0.0)
    first, second = (dict(made.generate([Clip("a", "A dog barks")], steps=1, guidance_scale=2.0, seed=seed))["a"] for seed in (0, 1))
    assert np.array_equal(first, second)
    for name in ("teacher", "diffusers:nowhere"):
        with pytest.raises(ConfigError, match="temperature is of DiTAR alone"):
            tta_bench.load_system(name, temperature=0.5)
