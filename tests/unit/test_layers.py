"""The package's layers: imports go down, siblings do not touch, nothing goes round."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tta_bench

PACKAGE = Path(tta_bench.__file__).parent
LAYERS = {
    **dict.fromkeys(
        ("errors", "files", "rng", "records", "config", "audio", "mpeg", "spectrum", "weights", "checkpoints", "weights_store", "rows", "row_values"),
        0,
    ),
    **dict.fromkeys(("weights_table", "weights_convert", "download", "lengths"), 0),
    **dict.fromkeys(("data", "diffusion", "models", "metrics"), 1),
    "embedders": 1.5,  # the bundled one is a network of models
    "systems": 2,
    "harness": 3,
    **dict.fromkeys(("doctor", "doctor_probe", "doctor_report", "console"), 4),
    **dict.fromkeys(("api", "terminal", "run_commands", "setup_commands", "weights_commands", "pytest_plugin", "cli", "__main__"), 4),
}
BESIDE = {
    "gate": {"errors", "files", "records", "rows", "config", "gate_power"},
    "gate_report": {"gate"},
    "gate_power": set(),
    "report": {"errors", "files", "records", "rows", "row_values", "config", "audio", "lengths", "spectrum", "metrics", "gate", "gate_power"},
}
NO_TORCH = {
    "metrics",
    "gate",
    "gate_report",
    "gate_power",
    "report",
    "rows",
    "row_values",
    "data",
    "records",
    "config",
    "audio",
    "lengths",
    "spectrum",
    "weights",
    "weights_table",
    "weights_store",
    "download",
    "files",
    "rng",
    "errors",
}
PURE = {"metrics", "diffusion"}
NOT_PURE = {"os", "time", "pathlib", "open", "print", "rich", "soundfile", "tempfile", "random", "logging"}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path, anywhere: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{name.name}" for name in node.names if f"{node.module}.{name.name}" in FILES}
    return found


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in FILES if name != "tta_bench"])
def test_imports_go_down(module: str) -> None:
    part = _part(module)
    for target in _imports(FILES[module]):
        other = _part(target)
        if not target.startswith("tta_bench.") or other == part:
            continue
        if part in BESIDE:
            assert other in BESIDE[part], f"{module} imports {target}"
        elif other in BESIDE:
            assert LAYERS[part] == 4, f"{module} imports {target}"
        else:
            assert LAYERS[other] < LAYERS[part] or LAYERS[part] in (0, 4), f"{module} imports {target}"
            assert LAYERS[other] <= LAYERS[part], f"{module} imports {target}"


def test_every_part_has_a_layer() -> None:
    assert {_part(name) for name in FILES if name != "tta_bench"} <= set(LAYERS) | set(BESIDE)


def test_nothing_goes_round() -> None:
    graph = {name: {target for target in _imports(path, anywhere=False) if target in FILES} for name, path in FILES.items()}
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"cycle: {' -> '.join((*path, name))}"
        if name not in state:
            state[name] = 1
            for target in graph[name]:
                visit(target, (*path, name))
            state[name] = 2

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("module", [name for name in FILES if _part(name) in NO_TORCH])
def test_no_torch(module: str) -> None:
    assert not any(target.split(".")[0] == "torch" for target in _imports(FILES[module]))


@pytest.mark.parametrize("module", [name for name in FILES if _part(name) in PURE])
def test_pure_parts_touch_no_clock_no_disk_and_no_terminal(module: str) -> None:
    assert not {target.split(".")[0] for target in _imports(FILES[module])} & NOT_PURE
    calls = {
        node.func.id for node in ast.walk(ast.parse(FILES[module].read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & NOT_PURE


@pytest.mark.parametrize("module", FILES)
def test_files_and_functions_are_small(module: str) -> None:
    text = FILES[module].read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
