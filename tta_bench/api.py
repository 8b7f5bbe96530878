"""The public Python functions, as `tta_bench.NAME`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta_bench.config import EvaluateConfig, parse_settings
from tta_bench.embedders.load import load_embedder as load_embedder
from tta_bench.embedders.protocol import Embedder
from tta_bench.harness.evaluate import Evaluation
from tta_bench.harness.evaluate import evaluate as run_evaluation
from tta_bench.harness.progress import Progress, silent

if TYPE_CHECKING:
    from tta_bench.harness.run_config import RunConfig
    from tta_bench.harness.sweep import Sweep
    from tta_bench.systems.diffusers import DiffusersSystem
    from tta_bench.systems.ditar import DitarSystem
    from tta_bench.systems.latent import LatentSystem
    from tta_bench.systems.protocol import System


def evaluate(
    generated: str | Path,
    reference: str | Path,
    *,
    embedders: Sequence[str | Embedder] = ("mel",),
    metrics: Sequence[str] = (),
    progress: Progress = silent,
    **options: Any,
) -> Evaluation:
    """Score a folder of generated audio against a folder of reference audio; as `tta-bench evaluate`.

    embedders: "NAME" or "NAME:PATH", or objects with the `Embedder` protocol. metrics: names of `tta_bench.metrics.suite.METRICS`;
    none means every default one that the embedders can serve. options: captions, skip_bad, out, batch_size, device, backend.
    Returns an `Evaluation`: `.records`, `.frame()`. Raises TtaBenchError for input that cannot be scored.
    """
    names = tuple(item if isinstance(item, str) else str(getattr(item, "name", item)) for item in embedders)
    values = {"generated": generated, "reference": reference, "embedder": names, "metric": tuple(metrics), **options}
    settings = parse_settings(EvaluateConfig, values, "evaluate")
    objects = [item for item in embedders if not isinstance(item, str)]
    if settings.backend == "reference":
        return run_evaluation(settings, objects or None, progress)
    loaded = [load_embedder(item, settings.device) if isinstance(item, str) else item for item in embedders]
    return run_evaluation(settings, loaded, progress)


def sweep(
    config: RunConfig | Mapping[str, Any] | str | Path,
    systems: Mapping[str, System] | None = None,
    *,
    quick: bool = False,
    processes: int = 1,
    progress: Progress = silent,
) -> Sweep:
    """Generate, score and time systems over step counts, and render the report; as `tta-bench run`.

    config: a TOML file, its keys, or a `RunConfig`. systems: models of your own by the name of their entry in the configuration, each with
    `name`, `sample_rate_hz` and `generate` (see `tta_bench.systems.protocol.System`); one with a `checksum` is not asked again for audio
    that is there. processes: how many generate at once, on a CPU; with more than one, a script needs the guard `if __name__ == "__main__"`.
    Returns a `Sweep`: `.records`, `.failures`, `.run` (the folder). Raises TtaBenchError for what cannot be run.
    """
    from tta_bench.config import read_toml
    from tta_bench.harness.run_config import RunConfig, resolve_run
    from tta_bench.harness.sweep import sweep as run_sweep
    from tta_bench.report.fresh import is_fresh

    if isinstance(config, str | Path):
        settings = resolve_run(read_toml(Path(config)), str(config), Path(config).stem, quick)
    else:
        settings = config if isinstance(config, RunConfig) else resolve_run(config, "sweep", "sweep", quick)
    result = run_sweep(settings, systems, progress, processes)
    if not is_fresh(result.run):
        from tta_bench.report.render import render

        render(result.run)
    return result


def load_system(
    name: str, folder: str | Path | None = None, *, sampler: str | None = None, device: str = "cpu", temperature: float = 1.0
) -> LatentSystem | DitarSystem | DiffusersSystem:
    """The system of network `name`: "teacher", "guided" or "student-WEIGHTING-STEPS" of the package, or of a bundle's `folder`, the same of
    DiTAR with "ditar/" before it; of a pretrained pipeline with "diffusers:" before its folder or hub name. sampler: "ddim" by default, of a
    pipeline "own". temperature: of DiTAR, see `tta_bench.diffusion.temperature`.

    `.generate(clips, steps=, guidance_scale=, seed=)` yields (clip_id, (T,) float32 audio). Raises WeightsError for networks that are not there,
    ConfigError for a temperature outside [0, 1], or another than 1 of what is no DiTAR.
    """
    if name.startswith("diffusers:"):
        from tta_bench.systems.request import refuse_temperature

        refuse_temperature(name, temperature)
        from tta_bench.systems.diffusers import load_diffusers
        from tta_bench.systems.pipelines import Options

        return load_diffusers(name.removeprefix("diffusers:"), sampler=sampler or "own", options=Options(device))
    from tta_bench.harness.bundled import load_system as load_bundled

    return load_bundled(name, Path(folder) if folder else None, sampler or "ddim", device, temperature)
