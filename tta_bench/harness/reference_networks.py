"""What the reference packages compute, with their silent failures made loud.

frechet-audio-distance turns every exception into -1, goes on without the clips that come after a bad one, flattens the embeddings of PANNs
(so that its own score of them is always -1), and, as laion-clap, takes a random part of a clip beyond 10 s. Here each clip is a call of
its own that must give rows, rows stay rows, and of a longer clip the first 10 s count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tta_bench.errors import InputError, MetricError, TtaBenchError, WeightsError
from tta_bench.harness.reference_packages import Packages, first_line, offline, on_device, quiet
from tta_bench.harness.reference_weights import SUBMODELS, Network, Staged

Rows = npt.NDArray[Any]
T = TypeVar("T")
_CLAP_SAMPLES = 480_000  # 10 s
_WIDTHS = {"vggish": 128, "pann": 2048, "clap": 512}
_ROBERTA_WORDS = 50_265
_CAPTIONS_AT_ONCE = 16
_CANNOT = "leave the clip out, or use --backend ours"


class FadNetwork:
    """A network inside frechet-audio-distance. Raises WeightsError where the package cannot load it."""

    def __init__(self, packages: Packages, network: Network, staged: Staged, device: str) -> None:
        self._network, self._load = network, packages.fad.utils.load_audio_task
        submodel = SUBMODELS.get(network.checkpoint, ("630k-audioset",))[0]
        arguments = {"ckpt_dir": str(staged.hub), "model_name": network.kind, "submodel_name": submodel, "sample_rate": network.sample_rate_hz}
        self._fad = _loaded(network, device, lambda: packages.fad.FrechetAudioDistance(**arguments))

    def rows(self, path: Path) -> Rows:
        """(P, D) embeddings of a file, read and resampled by the package. Raises InputError naming the file where there are none."""
        return _embedded(path, self._rows, _WIDTHS[self._network.kind])

    def _rows(self, path: Path) -> Any:
        audio = self._load(str(path), self._network.sample_rate_hz, 1)
        if self._network.kind == "clap":
            audio = audio[:_CLAP_SAMPLES]
        return self._fad.get_embeddings([audio], sr=self._network.sample_rate_hz)

    def distance(self, reference: Rows, generated: Rows) -> tuple[float, bool]:
        """The package's Frechet distance of rows (N, D), and whether it put 1e-6 on the covariances' diagonals to get one.

        Raises MetricError where it is none: fewer than 2 rows, not finite, or the package gives up.
        """
        for rows, what in ((reference, "reference"), (generated, "generated")):
            if len(rows) < 2:
                raise MetricError("too_few_clips", f"a Frechet distance needs at least 2 rows, the {what} set has {len(rows)}; add clips")
        with quiet() as printed:
            try:
                left, right = (self._fad.calculate_embd_statistics(rows) for rows in (reference, generated))
                value = float(self._fad.calculate_frechet_distance(*left, *right))
            except Exception as error:
                raise MetricError("not_finite", f"frechet-audio-distance found no distance ({first_line(error)}); add clips") from error
        if not np.isfinite(value):
            raise MetricError("not_finite", f"frechet-audio-distance came out as {value}; add clips")
        return value, "singular" in printed.getvalue()


class ClapNetwork:
    """laion-clap's own module. Raises WeightsError where it cannot be loaded or its tokeniser is not RoBERTa's."""

    def __init__(self, packages: Packages, network: Network, staged: Staged, device: str) -> None:
        from librosa import load  # as laion-clap reads files

        self._load, self._clap = load, _loaded(network, device, lambda: self._build(packages, network, staged, device))
        self._check_tokeniser()

    @staticmethod
    def _build(packages: Packages, network: Network, staged: Staged, device: str) -> Any:
        clap = packages.clap.CLAP_Module(enable_fusion=False, device=device, amodel=SUBMODELS[network.checkpoint][1])
        clap.load_ckpt(str(staged.hub / network.official), verbose=False)
        return clap

    def _check_tokeniser(self) -> None:
        """A file of it that is missing gives a tokeniser of five words without an error; all captions are then one."""
        words = len(self._clap.tokenize)
        first, second = self._clap.tokenize(["a dog barks", "rain falls"])["input_ids"]
        if words != _ROBERTA_WORDS or first == second:
            raise WeightsError(
                f"the tokeniser roberta-base in the Hugging Face cache has {words} words and not {_ROBERTA_WORDS}; fetch it again with: "
                "hf download roberta-base"
            )

    def audio(self, path: Path) -> Rows:
        """(1, 512) of a file, read and resampled by librosa, quantised to 16 bits by laion-clap."""
        return _embedded(path, self._audio, 512)

    def _audio(self, path: Path) -> Any:
        samples, _ = self._load(str(path), sr=48_000)
        return self._clap.get_audio_embedding_from_data(samples[None, :_CLAP_SAMPLES])

    def texts(self, captions: Sequence[str]) -> Rows:
        """(N, 512). Raises InputError where different captions come out as one."""
        rows: list[Rows] = []
        with quiet(), _no_gradients():
            for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
                rows += list(self._clap.get_text_embedding(list(captions[start : start + _CAPTIONS_AT_ONCE])))
        found = np.asarray(rows)
        if len(set(captions)) > 1 and (found == found[0]).all():
            raise InputError("laion-clap gives all captions the same embedding; fetch its tokeniser again with: hf download roberta-base")
        return found


def _no_gradients() -> Any:
    import torch

    return torch.no_grad()


def _loaded(network: Network, device: str, build: Callable[[], T]) -> T:
    with offline(), on_device(device), quiet() as printed, contextlib.redirect_stderr(printed):
        try:
            return build()
        except TtaBenchError:
            raise
        except Exception as error:
            if "huggingface.co" in str(error):  # of transformers, before the checkpoint is opened
                raise WeightsError(
                    f"laion-clap builds its text branch from roberta-base in the Hugging Face cache, where it is not ({first_line(error)}); "
                    "fetch it with: hf download roberta-base"
                ) from error
            raise WeightsError(f"{network.file}: the reference packages cannot load it ({first_line(error)}); is this the right file?") from error


def _embedded(path: Path, embed: Callable[[Path], Any], width: int) -> Rows:
    with quiet() as printed, _no_gradients():
        try:
            rows = np.asarray(embed(path))
        except Exception as error:
            said = printed.getvalue().strip().splitlines()
            raise InputError(f"{path}: the reference package cannot embed it ({said[-1] if said else first_line(error)}); {_CANNOT}") from error
    if rows.size == 0 or rows.size % width:
        raise InputError(f"{path}: the reference package made {rows.size} numbers of it, not rows of {width}; {_CANNOT}")
    if not np.isfinite(rows).all():
        raise InputError(f"{path}: the reference package made embeddings of it that hold NaN or infinity; {_CANNOT}")
    return rows.reshape(-1, width)
