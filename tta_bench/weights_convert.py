"""From a published checkpoint to what the store keeps of it: tensors as safetensors under their official names, text as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta_bench.checkpoints import is_web_page, read_checkpoint, tensors_digest
from tta_bench.errors import WeightsError
from tta_bench.files import atomic_write, sha256_file
from tta_bench.weights_table import Entry, Published

if TYPE_CHECKING:
    from torch import Tensor

Readers = Mapping[str, Callable[[Path], "dict[str, Tensor]"]]


def convert(path: Path, folder: Path, wanted: Entry, file: Published, trust: str | None, readers: Readers) -> dict[str, dict[str, Any]]:
    """Write what will be used of `path` into `folder`; by the new file's name, its SHA-256, size and (of tensors) `tensors_digest`.

    readers: by kind of file, what reads its tensors. Raises WeightsError as `read_checkpoint` does, StorageError where it cannot be written.
    """
    if wanted.kind == "text":
        return {file.file: _file_note(_copied_text(path, folder / file.file))}
    if wanted.kind != "torch" and wanted.kind not in readers:
        raise WeightsError(f"{path}: {wanted.name} is an {wanted.kind.upper()} file, which needs a reader; run `tta-bench weights add {path}`")
    tensors = readers[wanted.kind](path) if wanted.kind in readers else read_checkpoint(path, trust)
    target = folder / f"{wanted.name}.safetensors"
    _save(tensors, target)
    return {target.name: _file_note(target) | {"tensors_sha256": tensors_digest(tensors)}}


def _save(tensors: Mapping[str, Tensor], target: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    shared: set[int] = set()  # tied weights: each gets values of its own, as the format wants
    plain = {}
    for name, tensor in tensors.items():
        again = tensor.untyped_storage().data_ptr() in shared or tensor.untyped_storage().nbytes() != tensor.nbytes
        shared.add(tensor.untyped_storage().data_ptr())
        plain[name] = tensor.clone().contiguous() if again else tensor.contiguous()
    with atomic_write(target) as file:  # by its name, not through Python: the file is not held in memory a second time
        try:
            save_file(plain, file.name)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _copied_text(path: Path, target: Path) -> Path:
    data = path.read_bytes()
    if not data or is_web_page(data[:512]):
        raise WeightsError(f"{path}: is {'a web page' if data else 'empty'}, not {target.name}; fetch it again")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: is not text, as {target.name} is; is this the right file?") from error
    with atomic_write(target) as file:
        file.write(data)
    return target


def _file_note(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "size": path.stat().st_size}
