"""Lets torchvision and torchaudio, of which there is no CPU build for Linux, be imported beside a CPU build of PyTorch.

For tests only, and only where `torch.version.cuda` is None. Python imports a module of this name at its start when the folder is on
PYTHONPATH, so that commands started by tests have it too. Nothing that these tests use runs in what is missing: operators for images,
and torchaudio's alignment.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_EXTENSION = "torchaudio._extension"


class _CpuTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Declares torchvision's operators before its first import, and stands in for torchaudio's extension."""

    library: Any = None  # operators are gone when it is

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if name in ("torchvision", _EXTENSION) and _cpu_only():
            if name == _EXTENSION:
                return importlib.machinery.ModuleSpec(name, self)
            self._declare()
        return None

    def _declare(self) -> None:
        import torch

        if self.library is None:
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda function: function)


def _cpu_only() -> bool:
    import torch

    return torch.version.cuda is None


if not any(type(finder).__name__ == "_CpuTorch" for finder in sys.meta_path):
    sys.meta_path.insert(0, _CpuTorch())
