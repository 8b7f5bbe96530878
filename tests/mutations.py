"""Break the code in ways that have happened elsewhere, one at a time, and see that a test notices: `python tests/mutations.py [WORD]`.

Works on a copy. Prints a line per mutation and exits with 1 if one survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METRICS, DIFFUSION, HARNESS = "tests/unit/metrics", "tests/unit/diffusion", "tests/unit/harness"
PIPELINES = "tests/unit/harness/test_distill_pipeline.py"
GATE, SWEEP = "tests/unit/test_gate.py", "tests/unit/harness/test_sweep.py"

YAMNET_H5 = "tests/unit/embedders/test_yamnet_h5.py"
DITAR_SWEEP = "tests/unit/harness/test_ditar_sweep.py"
DITAR, DITAR_LM, DITAR_TRAINING = "tests/unit/systems/test_ditar.py", "tests/unit/models/test_ditar.py", "tests/unit/harness/test_ditar_training.py"
TEMPERATURE, STREAMING, PATCHES = (
    "tests/unit/diffusion/test_temperature.py",
    "tests/unit/models/test_streaming.py",
    "tests/unit/report/test_patches.py",
)
CHECKPOINTS, DOWNLOAD, STORE = "tests/unit/test_checkpoints.py", "tests/unit/test_download.py", "tests/unit/test_weights_store.py"

# what, file below tta_bench, its text, the mutant's text, tests that must fail
MUTATIONS = [
    ("n for n-1 in the covariance", "metrics/gaussian.py", "return self.scatter / (self.n - 1)", "return self.scatter / self.n", METRICS),
    ("n for n-1 in the total variance", "metrics/gaussian.py", "return scatter / (self.n - 1)", "return scatter / self.n", METRICS),
    ("n for n-1 in low-rank factors", "metrics/frechet.py", "np.sqrt(stats.n - 1)", "np.sqrt(stats.n)", METRICS),
    ("the KL's arguments swapped", "metrics/divergence.py", "PROTOCOLS[self.protocol](reference, generated)", "PROTOCOLS[self.protocol](generated, reference)", METRICS),
    ("the teacher's KL swapped", "metrics/fidelity.py", "kl_softmax(teacher, student)", "kl_softmax(student, teacher)", METRICS),
    ("the floor taken from the student", "metrics/fidelity.py", "floor = teacher.max() - RANGE_DB", "floor = student.max() - RANGE_DB", METRICS),
    ("no root in the log-mel RMSE", "metrics/fidelity.py", "np.sqrt(np.square(np.maximum(student, floor) - np.maximum(teacher, floor)).mean())", "np.abs(np.maximum(student, floor) - np.maximum(teacher, floor)).mean()", METRICS),
    ("frames averaged before they are compared", "metrics/suite.py", 'paired=True,\n        pooling="patches",', "paired=True,", METRICS),
    ("KL pairs by position", "metrics/clips.py", "ordered = tuple(sorted(self.blocks, key=lambda block: block[0]))", "ordered = self.blocks", METRICS),
    ("no exp in the inception score", "metrics/inception.py", "value = np.exp(negative_entropy.mean() - np.exp(log_mean) @ log_mean)", "value = negative_entropy.mean() - np.exp(log_mean) @ log_mean", METRICS),
    ("the diagonal counted in KAD", "metrics/kernel.py", "_gaussian_sums(x, x, bandwidth).sum() - m", "_gaussian_sums(x, x, bandwidth).sum()", METRICS),
    ("upper for lower median", "metrics/kernel.py", "(pairs - 1) // 2, 0.0", "pairs // 2, 0.0", METRICS),
    ("no pair correction", "metrics/score.py", "if pair_effects is not None and", "if False and pair_effects is not None and", METRICS),
    ("Chan's cross term dropped", "metrics/gaussian.py", " + np.outer(delta, delta * (self.n * other.n / n))", "", METRICS),
    ("seeds compared with themselves", "metrics/diversity.py", "np.triu_indices(len(rows), 1)", "np.triu_indices(len(rows), 0)", METRICS),
    ("the error rate as a mean over clips", "metrics/events.py", "(errors - value * words) / words.mean()", "errors - value * words", METRICS),
    ("places of events taken for one", "metrics/events.py", "there[places[there] == place]", "there[places[there] >= place]", METRICS),
    ("captions without events count as errors", "metrics/events.py", "used = [i for i, count in enumerate(words) if count]", "used = list(range(len(words)))", METRICS),
    ("events all at once", "embedders/events.py", "> TOGETHER", "> 2.0", "tests/unit/embedders/test_events.py"),
    ("the padding listened to", "embedders/events.py", "// FRAME_SAMPLES)]", "// FRAME_SAMPLES + 99)]", "tests/unit/embedders/test_events.py"),
    ("after read as before", "data/events_of.py", 'last = last if joint == "after" else len(groups)', "last = len(groups)", "tests/unit/data/test_events_of.py"),
    ("a telephone bell is a bell", "data/events_of.py", "sorted(_CLASS_OF, key=len, reverse=True)", "sorted(_CLASS_OF, key=len)", "tests/unit/data/test_events_of.py"),
    ("a score over other seeds stays", "harness/run_plan.py", "if spec.name not in one_seed]", "]", "tests/unit/harness/test_seeds.py"),
    ("a score over seeds waits for more of them", "rows.py", " and self.records[0].seed is not None", "", "tests/unit/harness/test_seeds.py"),
    ("one step too many in the grid", "diffusion/schedule.py", "torch.arange(steps, -1, -1, dtype=torch.float64) / steps", "torch.arange(steps, -1, -1, dtype=torch.float64) / (steps + 1)", DIFFUSION),
    ("the student's grid starts at i/N", "diffusion/distill.py", "first = self.teacher_steps - (step + 1) * self.ratio", "first = self.teacher_steps - step * self.ratio - 1", DIFFUSION),
    ("t_mid and t_s swapped", "diffusion/distill.py", "v2 = evaluate(ddim_step(wide(z), wide(v1), path[0] - path[1]), 1)", "v2 = evaluate(ddim_step(wide(z), wide(v1), path[0] - path[1]), 2)", DIFFUSION),
    ("the second step's v as target", "diffusion/distill.py", "return v_target(v1, v2, z, path[0] - path[1], path[1] - path[2])", "return v2", DIFFUSION),
    ("the leading grid", "diffusion/discrete.py", "timesteps = trailing_timesteps(self.train_steps, steps)", "timesteps = trailing_timesteps(self.train_steps, steps) - self.train_steps // steps + 1", DIFFUSION),
    ("sampling ends at no noise", "diffusion/discrete.py", "torch.tensor([self.final_alpha_cumprod, *self.alphas_cumprod]", "torch.tensor([1.0, *self.alphas_cumprod]", DIFFUSION),
    ("eps taken for v", "harness/pipeline_teacher.py", 'if kind == "v_prediction":', 'if kind != "sample":', PIPELINES),
    ("guidance against the same caption", "harness/pipeline_teacher.py", "for name, value in text.items() if name.startswith(_NULL)})", "for name, value in text.items() if not name.startswith(_NULL)})", PIPELINES),
    ("a scale folded in that is none", "harness/pipeline_teacher.py", '.double() + shift).float()', '.double()).float()', PIPELINES),
    ("students sample on the leading grid", "systems/schedulers.py", '"timestep_spacing": "trailing"', '"timestep_spacing": "leading"', PIPELINES),
    ("students pay for guidance", "systems/diffusers.py", '1.0 if "guidance_scale" in self.card else guidance_scale', "guidance_scale", PIPELINES),
    ("a student's clips of any length", "systems/student.py", "if known is not None and audio_s is not None and audio_s != known:", "if False:", PIPELINES),
    ("a sampler's state in half precision", "systems/half.py", "return tuple(_cast(value, torch.float32) for value in output)", "return output", "tests/unit/systems/test_diffusers.py"),
    ("a second-order last step", "systems/schedulers.py", '"euler_at_final": True', '"euler_at_final": False', "tests/unit/systems/test_diffusers.py"),
    ("an offset put into padding", "systems/audioldm_mel.py", ".clamp(min=1)) * heard", ".clamp(min=1))", "tests/unit/systems/test_diffusers.py"),
    ("VGGish keeps its last ReLU", "embedders/vggish.py", "nn.Linear(4096, 128)]", "nn.Linear(4096, 128), nn.ReLU()]", "tests/unit/embedders/test_vggish.py"),
    ("the magnitude's peak (Google's FAD)", "embedders/vggish.py", "float(samples.max())", "float(samples.abs().max())", "tests/unit/embedders/test_vggish.py"),
    ("padding heard (PANNs)", "embedders/panns.py", "row[: lengths[i]] = audio[i][: lengths[i]]", "row[: len(audio[i])] = audio[i][: len(row)]", "tests/unit/embedders/test_panns.py"),
    ("short clips padded, not repeated (CLAP)", "embedders/clap.py", "repeated = np.tile(heard, SAMPLES // len(heard))", "repeated = heard", "tests/unit/embedders/test_clap.py"),
    ("the weight squared", "diffusion/distill.py", "return weight.to(error) * error", "return weight.to(error) ** 2 * error", DIFFUSION),
    ("weights not divided by snr + 1", "diffusion/weighting.py", "return weight / (snr + 1.0)", "return weight", DIFFUSION),
    ("no cap in BSA", "diffusion/weighting.py", "return snr.clamp(min=1.0, max=gamma)", "return snr.clamp(min=1.0)", DIFFUSION),
    ("guidance off by one", "diffusion/guidance.py", "return v_null + guidance_scale * (v_cond - v_null)", "return v_cond + guidance_scale * (v_cond - v_null)", DIFFUSION),
    ("Heun without its second evaluation", "diffusion/samplers.py", "z = z - 0.5 * delta * (v + v_after)", "z = z - delta * v", DIFFUSION),
    ("a global random generator", "rng.py", "return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))", "return np.random.Generator(np.random.PCG64(np.random.randint(2**31)))", "tests/unit/test_files_and_rng.py"),
    ("padding averaged in (mel)", "embedders/mel.py", "self.front_end(samples[:length])", "self.front_end(samples)", "tests/unit/embedders/test_mel.py"),
    ("frames of padding (log_mel)", "embedders/log_mel.py", "self.front_end(samples[:length])", "self.front_end(samples)", "tests/unit/embedders/test_log_mel.py"),
    ("padding averaged in (yamnet)", "embedders/yamnet.py", "row[:length] = samples[:length]", "row[: min(len(row), len(samples))] = samples[: len(row)]", "tests/unit/embedders/test_yamnet.py"),
    ("a clip's logits averaged (yamnet)", "embedders/yamnet.py", "_of_mean_probability(part) for part", "part.mean(dim=0) for part", "tests/unit/embedders/test_yamnet.py"),
    ("what is made of YAMNet's tensors left out of its checksum", "embedders/yamnet.py", "digest([_VERSION, tensors_digest(weights)])", "tensors_digest(weights)", YAMNET_H5),
    ("NaN in a record", "records.py", "all(number is None or math.isfinite(number) for number in numbers)", "True", "tests/unit/test_records.py"),
    ("NaN out of a metric", "metrics/suite.py", 'if not -float("inf") < score.value < float("inf"):', "if False:", METRICS),
    ("an unknown configuration key accepted", "config.py", 'extra="forbid", frozen=True', 'extra="ignore", frozen=True', "tests/unit/test_config.py"),
    ("cache keyed by name", "harness/features.py", "sha256 = hashlib.sha256(data).hexdigest()", "sha256 = hashlib.sha256(clip.clip_id.encode()).hexdigest()", HARNESS),
    ("decimation without a filter", "audio.py", 'np.asarray(soxr.resample(mono, from_hz, to_hz, quality="VHQ"), dtype=np.float32)', "mono[np.arange(0, len(mono), from_hz / to_hz).astype(int)]", "tests/unit/test_audio.py"),
    ("a cut-off file scored", "audio.py", "missing = _missing_bytes(data)", "missing = 0", "tests/unit/test_audio.py"),
    ("mel triangles linear in Hz", "spectrum.py", "mels = hz_to_mel_htk(np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft)[:, None]", "mels = (np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft)[:, None] * 2.4", "tests/unit/test_spectrum.py"),
    ("NaN through the gate", "gate.py", "if after.value is None or before.value is None:", "if before.value is None and after.value is None:", GATE),
    ("a row that is gone passes the gate", "gate.py", 'BLOCKING = ("WORSE", "MISSING", "NOT_FINITE", "INCOMPARABLE")', 'BLOCKING = ("WORSE", "NOT_FINITE", "INCOMPARABLE")', GATE),
    ("worse and better swapped", "gate.py", 'sign = 1.0 if direction == "lower" else -1.0', 'sign = 1.0 if direction == "higher" else -1.0', GATE),
    ("no correction for many rows", "gate.py", "passes = p[order] <= alpha / np.arange(len(p), 0, -1)", "passes = p[order] <= alpha", GATE),
    ("seeds counted as clips", "rows.py", "np.asarray(self.contributions.mean(axis=0))", "np.asarray(self.contributions.reshape(-1))", GATE),
    ("another reference compared", "gate.py", '"reference_sha256", "captions_sha256", "metric', '"captions_sha256", "metric', GATE),
    ("UNRESOLVED called SAME", "gate.py", 'return "SAME" if worse + reach <= margin and worse - reach >= -margin else "UNRESOLVED"', 'return "SAME"', GATE),
    ("audio that was changed scored as it was", "harness/cell_audio.py", "if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:", "if False:", SWEEP),
    ("a cell's noise without its seed", "harness/catalogue.py", "self.seed or 0, self", "0, self", SWEEP),
    ("fidelity to the wrong seed's teacher", "harness/sweep.py", "if is_target:\n                    teacher = side", "if is_target and teacher is None:\n                    teacher = side", SWEEP),
    ("partial rows ranked", "report/results.py", "estimate.n == self.n", "True", "tests/unit/report"),
    ("other audio's scores beside the last ones", "rows.py", "if current[row_of(record), record.seed] == record.cell:", "if True:", "tests/unit/test_rows.py"),
    ("a missing seed passed over", "rows.py", '"incomplete" if len(self.records) < self.planned and', '"incomplete" if False and', "tests/unit/test_rows.py"),
    ("a run of new rows alone passes the gate", "gate.py", 'all(item.verdict == "NEW" for item in verdicts) or any', "any", GATE),
    ("the error taken for known", "gate_power.py", "nctdtr(chance.noise_dof, centre, critical)", "ndtr(critical - centre)", GATE),
    ("an underflow counts as a miss", "gate_power.py", "_most_missed(chance.noise_dof, centre, critical), missed)", "1.0, missed)", GATE),
    ("an underflow never counts as a miss", "gate_power.py", "_most_missed(chance.noise_dof, centre, critical), missed)", "0.0, missed)", GATE),
    ("one codec's anchors for all families", "harness/catalogue.py", 'found.setdefault(sha256,', 'found.setdefault("the",', DITAR_SWEEP),
    ("captions of a sweep not noted", "harness/sweep.py", "self.captions, self.about(cell), made_from_captions=True", "self.captions, self.about(cell)", SWEEP),
    ("drift left in the speed-up", "report/speed.py", "dict(zip(rows, (1.0 + drift * shares).tolist(), strict=True))", "dict.fromkeys(rows, 1.0)", "tests/unit/report"),
    ("a run that was touched taken for finished", "harness/stamp.py", "found.st_mtime_ns, found.st_ctime_ns", "0, 0", "tests/unit/harness/test_stamp.py"),
    ("an incomplete run taken for finished", "harness/sweep.py", "if request and result.complete:", "if request:", "tests/system/test_run.py"),
    ("samplers mixed in pairs", "report/results.py", "other = baseline.get((*row.key[1:], run.distilled_for(row.key), row.family))", "other = next((found for key, found in baseline.items() if key[1:] == (*row.key[2:], run.distilled_for(row.key), row.family)), None)", "tests/unit/report/test_report.py"),
    ("a dropped metric haunts the run", "rows.py", "return {(metric, embedder) for metric, embedder in plan[\"scores\"]} if \"scores\" in plan else None", "return None", "tests/system/test_run.py"),
    ("noise of few clips taken for that of all", "rows.py", "return None if squares == 0.0 else min(max(1.0, float(variances.sum()) ** 2 / squares), len(variances) - 1.0)", "return len(variances) - 1.0", GATE),
    ("a network replaced meanwhile", "harness/bundled.py", "if _checksum(name, folder, kind) != checksum:", "if False:", SWEEP),
    ("another teacher's fidelity merged", "report/merge.py", "if any(map(_is_fidelity, added)) and not _same_teacher(whole, run):", "if False:", "tests/unit/report"),
    ("settings that differ overlooked", "harness/bundle.py", "differing = first_difference(card, wanted)", 'differing = ""', "tests/system/test_train.py"),
    ("an edited card believed", "models/bundle.py", "if card.get(_SEAL) != _seal(card):", "if False:", "tests/unit/models"),
    ("a pickle loaded unasked", "checkpoints.py", "if trusted_sha256 is None:", "if False:", CHECKPOINTS),
    ("any hash trusts a pickle", "checkpoints.py", "if actual != trusted_sha256.lower():", "if False:", CHECKPOINTS),
    ("names that leave the archive overlooked", "checkpoints.py", "if outside is not None:", "if False:", CHECKPOINTS),
    ("a packed archive mapped", "checkpoints.py", "return all(member.compress_type == zipfile.ZIP_STORED for member in members)", "return True", CHECKPOINTS),
    ("a redirect to any address followed", "download.py", 'parts.scheme in ("http", "https") and bool(parts.hostname)', "True", DOWNLOAD),
    ("from https to http", "download.py", 'if urlsplit(url).scheme == "https" and', "if False and", DOWNLOAD),
    ("two versions of a download mixed", "download.py", "int(start[1]) == have and _validator(reply) in (None, validator)", "True", DOWNLOAD),
    ("a download's hash overlooked", "download.py", "if wanted is not None and got != wanted.lower():", "if False:", DOWNLOAD),
    ("a download's end overlooked", "download.py", "if not part.resumable():", "if True:", DOWNLOAD),
    ("another epsilon in YAMNet's batch norm", "embedders/yamnet_h5.py", "_EPSILON = 1e-4", "_EPSILON = 1e-3", YAMNET_H5),
    ("height and width of depthwise kernels swapped", "embedders/yamnet_h5.py", "kernel.transpose(2, 3, 0, 1) if variable", "kernel.transpose(3, 2, 1, 0).swapaxes(0, 1) if variable", YAMNET_H5),
    ("links of an HDF5 file followed", "embedders/yamnet_h5.py", "if not isinstance(group.get(name, getlink=True), h5py.HardLink):", "if False:", YAMNET_H5),
    ("values of an HDF5 file taken from another file", "embedders/yamnet_h5.py", "if dataset.is_virtual or dataset.external:", "if False:", YAMNET_H5),
    ("all clips taken for a list", "data/table.py", "marked = [row for row in rows if _TRUTH[row.values[column].strip().lower()]]", "marked = list(rows)", "tests/unit/data/test_audiocaps.py"),
    ("a crash taken for a package that works", "doctor_probe.py", 'return {"error": ["Crash", _ending(child.returncode)]}', "return {}", "tests/unit/test_doctor.py"),
    ("a broken core passes", "doctor.py", 'for item in packages[""] if item.status != "ok"]\n    if not asked', 'for item in packages[""] if item.status == "absent"]\n    if not asked', "tests/unit/test_doctor.py"),
    ("other weights than those published taken", "weights_store.py", "if official is not None and got != official:", "if False:", STORE),
    ("weights replaced by another file", "weights_store.py", "if (there := before.source_sha256.get(file.file, found[0])) != found[0]:", "if False:", STORE),
    ("changed weights verified", "weights_store.py", 'sha256_file(file) != item["sha256"]', "False", STORE),
    ("a note leads out of the store", "weights_store.py", "os.path.basename(file)", "file", STORE),
    ("the patch in its own history", "models/ditar.py", "padded[:, :, i * patch : i * patch + history]", "padded[:, :, min(i + 1, count - 1) * patch : min(i + 1, count - 1) * patch + history]", DITAR_LM),
    ("a state that has seen its patch", "models/ditar.py", "return states[:, :-1], self.stop", "return states[:, 1:], self.stop", DITAR_LM),
    ("a state that has seen all patches", "models/ditar.py", "allowed = seen[:, None] & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()", "allowed = seen[:, None].expand(-1, x.shape[1], -1)", DITAR_LM),
    ("the end told a patch late", "models/ditar.py", "self.stop(states[:, 1:])", "self.stop(states[:, :-1])", DITAR_LM),
    ("every cached patch the first", "models/ditar.py", "self._patch_vectors(patch[:, None], state.patches)", "self._patch_vectors(patch[:, None], 0)", DITAR_LM),
    ("history that is not there seen", "models/ditar.py", ">= s.history - known[:, None]", ">= 0 * known[:, None]", DITAR_LM),
    ("guidance against no history", "systems/ditar.py", "self.locdit(z, log_snr, none, history, known), guidance_scale)", "self.locdit(z, log_snr, none, 0 * history, known), guidance_scale)", DITAR),
    ("history of the first patch for all", "systems/ditar.py", "history = torch.cat([history, patch], dim=2)[:, :, patch.shape[2] :]", "history = history", DITAR),
    ("a clip's noise by its place in the batch", "systems/ditar.py", "noise[rows, :, span], fresh[rows, :, span]", "noise[: len(rows), :, span], fresh[: len(rows), :, span]", DITAR),
    ("clips that go on where they should end", "systems/ditar.py", "(on := ends <= 0.0)", "(on := ends > 0.0)", DITAR),
    ("audio of a clip that ended held back", "systems/ditar.py", "parts |= _named(ended, decoder.keep(~on).finish())", "pass", DITAR),
    ("the estimate at a temperature not counted", "diffusion/temperature.py", "evaluations + (1 if 0 < entry < intervals else 0)", "evaluations", DITAR),
    ("noise at temperature 0", "diffusion/temperature.py", "zeros = torch.zeros_like(noise)", "zeros = 0.01 * noise", TEMPERATURE),
    ("the temperature upside down", "diffusion/temperature.py", "int(round((1.0 - temperature) * intervals, 9) + 0.5)", "int(round(temperature * intervals, 9) + 0.5)", TEMPERATURE),
    ("samples sent that still change", "models/streaming.py", "self._length - self._look_ahead", "self._length - self._look_ahead + 1", STREAMING),
    ("a window too short by a latent", "models/streaming.py", "latents_seen(self._codec.shape, earliest)[0])", "latents_seen(self._codec.shape, earliest)[0] + 1)", STREAMING),
    ("patches after a clip's end trained on", "harness/train_ditar.py", "inside = (number <= last[:, None]).float()", "inside = (number <= last[:, None] + 1).float()", DITAR_TRAINING),
    ("noise on the target's past", "harness/train_ditar.py", 'x, eps = (patches_of(part, self.recipe.patch) for part in (drawn.x, drawn.eps))', 'x, eps = (patches_of(part, self.recipe.patch) for part in (self._past(drawn.x, step, share), drawn.eps))', DITAR_TRAINING),
    ("no state dropped", "harness/train_ditar.py", "h = h * ~batch[\"dropped\"][..., None]", "h = h * 1.0", DITAR_TRAINING),
    ("distilled against no history", "harness/ditar_teacher.py", 'torch.zeros_like(text["h"]), text["history"], None', 'torch.zeros_like(text["h"]), 0 * text["history"], None', DITAR_TRAINING),
    ("trainings paired by place, not by seed", "report/patches.py", "([variant.rows[seed].estimates.get(column) for seed in seeds] for variant in (first, second))", "([row.estimates.get(column) for row in list(variant.rows.values())[: len(seeds)]] for variant in (first, second))", PATCHES),
    ("noise that enters is the noise at the start", "systems/ditar.py", "noise[rows, :, span], fresh[rows, :, span]", "noise[rows, :, span], noise[rows, :, span]", DITAR),
    ("history known before it is there", "systems/ditar.py", "min(i * shape.patch, self", "min((i + 1) * shape.patch, self", DITAR),
    ("a student's scale ignored", "systems/ditar.py", "scale = torch.full((len(h),), guidance_scale, device=h.device)", "scale = torch.full((len(h),), 1.0, device=h.device)", DITAR),
    ("clips that ended wait for the others", "systems/ditar.py", "yield rows.tolist(), None", "pass", DITAR),
    ("students learn padding", "harness/distillation.py", "if self.corpus.frames is not None:", "if False:", DITAR_TRAINING),
    ("losses of each process's own patches", "harness/train_ditar.py", "float((self._last(drawn.whole) + 1).mean() * len(share))", "float((self._last(drawn.chosen) + 1).sum())", DITAR_TRAINING),
    ("streams of another network kept", "harness/streaming.py", 'or item.get("checksum") == now[item["row"]]', "or True", DITAR_SWEEP),
    ("times of another network kept", "harness/timing.py", "now.get(name, made) == made", "True", DITAR_SWEEP),
    ("a temperature beside the grid", "harness/bundled.py", "if len(points) > 1:", "if False:", DITAR_SWEEP),
    ("one card for runs at two temperatures", "harness/run_plan.py", ' and "temperature" not in first', "", DITAR_SWEEP),
    ("scores over other numbers of clips averaged", "report/patches.py", "len({n for _, n in found}) == 1", "True", PATCHES),
]  # fmt: skip


def _killed(tree: Path, file: str, text: str, mutant: str, tests: str) -> bool:
    path = tree / "tta_bench" / file
    original = path.read_text()
    if original.count(text) != 1:
        raise SystemExit(f"{file}: {original.count(text)} places for {text!r}; keep the list in step with the code")
    path.write_text(original.replace(text, mutant))
    try:
        command = [sys.executable, "-m", "pytest", "-x", tests, "--ignore", f"{METRICS}/test_coverage.py"]
        environment = os.environ | {"PYTHONPATH": str(tree)}  # for the commands that tests start
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 1
    finally:
        path.write_text(original)


def main(word: str = "") -> int:
    """Number of survivors."""
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "project"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs", "*.egg-info"))
        if (ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        for what, file, text, mutant, tests in MUTATIONS:
            if word in what:
                killed = _killed(tree, file, text, mutant, tests)
                survivors += not killed
                print(f"{'caught  ' if killed else 'SURVIVED'}  {what}  ({file})", flush=True)
    return survivors


if __name__ == "__main__":
    raise SystemExit(min(1, main(*sys.argv[1:])))
