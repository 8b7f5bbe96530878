"""Tensors of published checkpoints: safetensors, or a file of torch.save read without running anything that is in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickletools
import re
import shlex
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path, PurePosixPath, PureWindowsPath
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from tta_bench.errors import UntrustedPickle, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_AGAIN = "fetch it again"
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--")
_WRAPPERS = ("state_dict", "model")
_PARALLEL = "module."  # DataParallel's prefix
_LEGACY_PICKLES = 4  # of torch before 1.6: magic number, protocol, system, object
_NUMPY = (
    "core.multiarray.scalar",
    "core.multiarray._reconstruct",
    "_core.multiarray.scalar",
    "_core.multiarray._reconstruct",
    "dtype",
    "ndarray",
    *(f"dtypes.{kind}DType" for kind in ("Bool", "Int32", "Int64", "Float32", "Float64")),
)


class _NumpyValue:
    """Stands for whatever numpy value lies beside the tensors (an epoch, a sampler's state): none is made, since none is used."""

    def __new__(cls, *_args: object) -> _NumpyValue:
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def read_checkpoint(path: Path, trusted_sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors by name, in their own shapes and types, of a safetensors file or of a file of torch.save; on the CPU, mapped where possible.

    `{"model": {...}}` and `{"state_dict": {...}}` are unwrapped, a leading `module.` is dropped; what is no tensor is left out. A pickle that
    needs code is refused (UntrustedPickle), unless `trusted_sha256` is the file's SHA-256. Raises WeightsError for whatever is no checkpoint;
    nothing of the file has then run, and nothing was written.
    """
    with _opened(path) as file:
        _check_trust(path, file, trusted_sha256)
        head = file.read(512)
        _check_head(path, head)
        file.seek(0)
        if head[8:9] == b"{":
            return _plain(path, _read_safetensors(path))
        if zipfile.is_zipfile(file) or head.startswith(b"PK"):
            mapped = _check_zip(path, file)
        elif head.startswith(b"\x80"):
            mapped = False
        else:
            raise WeightsError(f"{path}: is neither a safetensors file nor one that torch.save wrote; is this the right file?")
        file.seek(0)
        return _plain(path, _read_torch(path, file, mapped, trusted_sha256))


def fitted(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], ignorable: Collection[str] = ()) -> dict[str, Tensor]:
    """`tensors` as float32: exactly those that `expected` names, in its shapes. `path` is for the messages.

    ignorable: names, or patterns such as `*.num_batches_tracked`, of tensors that may be there and are left out.
    Raises WeightsError naming the file and the first tensor that is missing, misshapen, not finite or of another model.
    """
    import torch

    for name, shape in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path}: tensor {name} is missing; is this the right file?")
        if tuple(tensors[name].shape) != tuple(shape):
            raise WeightsError(f"{path}: tensor {name} has shape {tuple(tensors[name].shape)}, not {tuple(shape)}; is this the right file?")
    extra = sorted(name for name in set(tensors) - set(expected) if not any(fnmatchcase(name, pattern) for pattern in ignorable))
    if extra:
        raise WeightsError(f"{path}: holds tensors of another model, e.g. {extra[0]}; is this the right file?")
    result = {name: tensors[name].to(torch.float32).contiguous() for name in expected}
    for name, tensor in result.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor {name} holds NaN or infinity; fetch the file again")
    return result


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over the tensors in the order of their names: name, type, shape and values. The kind of file they came from does not enter."""
    import torch

    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        values: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        state.update(values)
    return state.hexdigest()


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is HTML or XML: a login page or an error page, saved under the name of what was wanted."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; name the file in it")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: does not exist; check the path") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    with file:
        yield file


def _check_trust(path: Path, file: BufferedReader, trusted_sha256: str | None) -> None:
    if trusted_sha256 is not None:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != trusted_sha256.lower():
            raise WeightsError(f"{path}: has the SHA-256 {actual}, not the trusted {trusted_sha256}; it is another file than the one you trust")
        file.seek(0)


def _check_head(path: Path, head: bytes) -> None:
    if not head:
        raise WeightsError(f"{path}: is empty; {_AGAIN}")
    if is_web_page(head):
        raise WeightsError(f"{path}: is a web page, not a checkpoint; open the address in a browser to see what it says, then {_AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: is a pointer of Git LFS, not the checkpoint itself; run `git lfs pull` where it came from")
    if head.startswith(b"\x89HDF"):
        raise WeightsError(f"{path}: is an HDF5 file, not a checkpoint of PyTorch; is this the right file?")


def _check_zip(path: Path, file: BufferedReader) -> bool:
    """Whether the archive may be mapped: its members are stored as they are. Raises WeightsError for any archive that torch.save does not write."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as error:
        raise WeightsError(f"{path}: is cut off or damaged ({error}); {_AGAIN}") from error
    names = [member.filename for member in members]
    outside = next((name for name in names if _leaves_folder(name)), None)
    if outside is not None:
        raise WeightsError(
            f"{path}: holds a file named {outside!r}, outside of the archive's own folder; do not use it, {_AGAIN} from its official address"
        )
    inside = {PurePosixPath(name).name for name in names}
    if "constants.pkl" in inside:
        raise WeightsError(f"{path}: is a TorchScript program, not a set of tensors; is this the right file?")
    if "data.pkl" not in inside:
        raise WeightsError(f"{path}: is a zip archive, not a checkpoint; unpack it and name the checkpoint in it")
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _leaves_folder(name: str) -> bool:
    return any(kind(name).is_absolute() or kind(name).anchor or ".." in kind(name).parts for kind in (PurePosixPath, PureWindowsPath))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: is cut off or damaged ({error}); {_AGAIN}") from error


def _read_torch(path: Path, file: BufferedReader, mapped: bool, trusted_sha256: str | None) -> Any:
    import torch

    stand_ins: list[Any] = [(_NumpyValue, f"numpy.{name}") for name in _NUMPY]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # of the pickle's protocol, which is told below
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        if not mapped and not _whole_pickles(file):
            raise WeightsError(f"{path}: is cut off or damaged; {_AGAIN}") from error
        if trusted_sha256 is None:
            raise UntrustedPickle(_refusal(path, file, str(error))) from error
    except Exception as error:
        raise WeightsError(f"{path}: is cut off or damaged ({_first_line(error)}); {_AGAIN}") from error
    return _run(path, file)


def _run(path: Path, file: BufferedReader) -> Any:
    """What the pickle makes, code and all: only of the very bytes whose hash was checked."""
    import torch

    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:
        raise WeightsError(f"{path}: cannot be loaded ({_first_line(error)}); is this the right file?") from error


def _whole_pickles(file: BufferedReader) -> bool:
    """Whether the pickles at the beginning end as pickles do; reads their instructions without following them."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        return True
    file.seek(0)
    try:
        for _ in range(_LEGACY_PICKLES):
            for _ in pickletools.genops(file):
                pass
            if not file.peek(1):
                break
    except ValueError:
        return False
    return True


def _refusal(path: Path, file: BufferedReader, reason: str) -> str:
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"it calls {wanted[1]}" if wanted else "it is written in a form that only Python's own pickle reads"
    return (
        f"{path}: is a pickle that can run code when it is loaded ({what}), and was not loaded; if you know where it comes from and trust it: "
        f"tta-bench weights add {shlex.quote(str(path))} --trust-pickle {sha256}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]


def _plain(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors alone, without what is wrapped around them."""
    from torch import Tensor, strided

    while isinstance(content, Mapping) and any(isinstance(content.get(key), Mapping) for key in _WRAPPERS):
        content = next(content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
    found = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)} if isinstance(content, Mapping) else {}
    if not found:
        raise WeightsError(f"{path}: holds no tensors by name; is this the right file?")
    for name, tensor in found.items():
        if tensor.device.type != "cpu" or tensor.layout is not strided or tensor.is_quantized:
            raise WeightsError(f"{path}: tensor {name} is not a plain one ({tensor.device.type}, {tensor.layout}); is this the right file?")
    plain = {name.removeprefix(_PARALLEL): tensor for name, tensor in found.items()}
    if len(plain) < len(found):
        raise WeightsError(f"{path}: holds the same tensor with and without {_PARALLEL!r} before its name; is this the right file?")
    return plain
