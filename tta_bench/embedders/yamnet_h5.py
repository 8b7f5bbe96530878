"""Google's yamnet.h5 (Keras weights) as the tensors that `tta_bench.embedders.yamnet` takes: batch norm folded, kernels transposed.

Layer names and settings as in TensorFlow's model garden (research/audioset/yamnet: yamnet.py, params.py): batch norm with centre but without
scale, epsilon 1e-4. Keras nests groups by layer and variable, differently from version to version; a variable is known by the end of its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tta_bench.embedders.yamnet import tensor_shapes
from tta_bench.errors import ExtraMissing, WeightsError
from tta_bench.spectrum import VGGISH
from tta_bench.weights import check_weights

Array = npt.NDArray[np.float64]

_EPSILON = 1e-4
_LAYERS = 14
_DEEPEST, _MOST_OBJECTS, _MOST_VALUES = 16, 4_096, 1_100_000  # the largest kernel holds 1024 x 1024
_DENSE = re.compile(r"(?:^|/)(?:logits|dense(?:_\d+)?)/(kernel|bias)(?::0)?$")
_VARIABLE = re.compile(r"(?:^|/)(layer\d+/(?:depthwise_|pointwise_)?conv/(?:bn/)?[a-z_]+)(?::0)?$")


def read_yamnet_h5(path: Path) -> dict[str, torch.Tensor]:
    """float32 tensors by the names of `yamnet.safetensors`: layerN.{conv,depthwise,pointwise}.{weight,bias}, dense.*, frontend.{window,mel}.

    Nothing but the file itself is read: links to other files, virtual and external data are refused. The front end is exact;
    TensorFlow computes its mel weights in float32, which moves embeddings by up to 4e-5.
    Raises WeightsError where the file is not YAMNet's weights, ExtraMissing without h5py.
    """
    found = _variables(path)
    tensors: dict[str, Array] = {}
    for name, variable in _kernels().items():
        weight, bias = _folded(path, found, variable)
        tensors |= {f"{name}.weight": weight, f"{name}.bias": bias}
    tensors |= {"dense.weight": _taken(path, found, "dense/kernel", 2).T, "dense.bias": _taken(path, found, "dense/bias", 1)}
    if found:
        raise WeightsError(f"{path}: holds variables of another model, e.g. {min(found)}; is this YAMNet's file?")
    tensors |= {"frontend.window": VGGISH.hann, "frontend.mel": VGGISH.matrix}  # the same as VGGish's
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        rounded = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in tensors.items()}
    return {name: torch.from_numpy(values) for name, values in check_weights(path, rounded, tensor_shapes()).items()}


def _kernels() -> dict[str, str]:
    """Our layers and where Keras keeps their kernels."""
    kernels = {"layer1.conv": "layer1/conv/kernel"}
    for i in range(2, _LAYERS + 1):
        kernels |= {f"layer{i}.depthwise": f"layer{i}/depthwise_conv/depthwise_kernel", f"layer{i}.pointwise": f"layer{i}/pointwise_conv/kernel"}
    return kernels


def _folded(path: Path, found: dict[str, Array], variable: str) -> tuple[Array, Array]:
    """(O, I, H, W) kernel and (O,) bias of a convolution with its batch norm: y = (conv(x) - mean) / sqrt(variance + eps) + beta."""
    layer = variable.rpartition("/")[0]
    kernel = _taken(path, found, variable, 4)
    beta, mean, variance = (_taken(path, found, f"{layer}/bn/{name}", 1) for name in ("beta", "moving_mean", "moving_variance"))
    # Keras keeps kernels as (H, W, I, O), depthwise ones as (H, W, C, 1)
    weight = kernel.transpose(2, 3, 0, 1) if variable.endswith("depthwise_kernel") else kernel.transpose(3, 2, 0, 1)
    if not len(weight) == len(beta) == len(mean) == len(variance):
        raise WeightsError(f"{path}: {variable} and its batch norm differ in their number of channels; is this YAMNet's file?")
    if not (np.isfinite(variance) & (variance >= 0.0)).all():
        raise WeightsError(f"{path}: {layer}/bn/moving_variance holds negative values, NaN or infinity; fetch the file again")
    scale = 1.0 / np.sqrt(variance + _EPSILON)
    return weight * scale[:, None, None, None], beta - mean * scale


def _taken(path: Path, found: dict[str, Array], name: str, dimensions: int) -> Array:
    """A variable, removed from `found`."""
    if name not in found:
        raise WeightsError(f"{path}: {name} is missing; is this YAMNet's file (yamnet.h5)?")
    values = found.pop(name)
    if values.ndim != dimensions:
        raise WeightsError(f"{path}: {name} has shape {values.shape}, not {dimensions} dimensions; is this YAMNet's file (yamnet.h5)?")
    return values


def _variables(path: Path) -> dict[str, Array]:
    """Every dataset of the file by the end of its path; the classifier's, whose layer has had several names, as dense/..."""
    h5py = _h5py()
    if not path.exists():
        raise WeightsError(f"{path}: does not exist; check the path")
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; name the .h5 file in it")
    found: dict[str, Array] = {}
    try:
        if not h5py.is_hdf5(path):
            raise WeightsError(f"{path}: is not an HDF5 file, it begins with {_beginning(path)!r}; fetch it again")
        with h5py.File(path, "r") as file:
            for where, dataset in _datasets(path, file, h5py):
                name = _name(path, where)
                if name in found:
                    raise WeightsError(f"{path}: holds {name} twice; is this YAMNet's file (yamnet.h5)?")
                found[name] = _values(path, where, dataset)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: is damaged or no HDF5 file ({str(error).strip()}); fetch it again") from error
    return found


def _h5py() -> Any:
    try:
        import h5py
    except (ImportError, OSError, RuntimeError) as error:
        raise ExtraMissing("h5py", "yamnet", str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__) from error
    return h5py


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(16).decode("latin-1")


def _datasets(path: Path, file: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """Datasets and where they are. Only hard links are followed: others may lead to other files."""
    pending: list[tuple[str, Any]] = [("", file)]
    objects = 0
    while pending:
        where, group = pending.pop()
        for name in group:
            objects += 1
            inner = f"{where}/{name}".lstrip("/")
            if objects > _MOST_OBJECTS or inner.count("/") >= _DEEPEST:
                raise WeightsError(f"{path}: holds more groups than YAMNet has; is this YAMNet's file (yamnet.h5)?")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsError(f"{path}: {inner} is a link, which may lead to another file; nothing of it was read; fetch the file again")
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append((inner, item))
            elif isinstance(item, h5py.Dataset):
                yield inner, item


def _name(path: Path, where: str) -> str:
    dense, variable = _DENSE.search(where), _VARIABLE.search(where)
    if dense:
        return f"dense/{dense[1]}"
    if variable:
        return variable[1]
    raise WeightsError(f"{path}: holds variables of another model, e.g. {where}; is this YAMNet's file (yamnet.h5)?")


def _values(path: Path, where: str, dataset: Any) -> Array:
    """The values in float64, the shape being looked at before anything is read."""
    if dataset.is_virtual or dataset.external:
        raise WeightsError(f"{path}: {where} keeps its values in another file; nothing of it was read; fetch the file again")
    if dataset.dtype.kind != "f" or dataset.shape is None or dataset.size > _MOST_VALUES:
        raise WeightsError(f"{path}: {where} has shape {dataset.shape} and type {dataset.dtype}; is this YAMNet's file (yamnet.h5)?")
    return np.asarray(dataset[()], dtype=np.float64)
