"""Writes YAMNet's variables as Keras wrote Google's yamnet.h5, from folded tensors and a batch norm that is made up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from tta_bench.embedders.yamnet import tensor_shapes

EPSILON = 1e-4


def random_tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Folded tensors of a YAMNet that has learnt nothing, scaled so that activations neither vanish nor grow."""
    tensors = {}
    for name, shape in tensor_shapes().items():
        if not name.startswith("frontend"):
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
            tensors[name] = (rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)
    return tensors


def variables(tensors: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """By Keras' names ("layer2/depthwise_conv/bn/beta:0"), in Keras' axes, unfolded: folding them again gives `tensors`."""
    made = {"logits/kernel:0": tensors["dense.weight"].T, "logits/bias:0": tensors["dense.bias"]}
    for name in (name.removesuffix(".weight") for name in tensors if name.endswith(".weight") and not name.startswith("dense")):
        layer, kind = name.split(".")
        keras = f"{layer}/{'conv' if kind == 'conv' else kind + '_conv'}"
        weight, bias = (tensors[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        mean, variance = rng.standard_normal(len(bias)), rng.uniform(0.2, 3.0, len(bias))
        spread = np.sqrt(variance + EPSILON)
        kernel = weight * spread[:, None, None, None]
        depthwise = kind == "depthwise"
        made[f"{keras}/{'depthwise_' * depthwise}kernel:0"] = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(2, 3, 1, 0)
        made |= {f"{keras}/bn/beta:0": bias + mean / spread, f"{keras}/bn/moving_mean:0": mean, f"{keras}/bn/moving_variance:0": variance}
    return {name: np.asarray(values, dtype=np.float32) for name, values in made.items()}


def write_h5(path: Path, values: Mapping[str, np.ndarray], inside: str = "") -> None:
    """Each variable in a group of its layer, under its whole name: layer1/conv/bn/layer1/conv/bn/beta:0. inside: of a saved model's group."""
    with h5py.File(path, "w") as file:
        root = file.create_group(inside) if inside else file
        for name, data in values.items():
            root.create_dataset(f"{name.rpartition('/')[0]}/{name}", data=data)
