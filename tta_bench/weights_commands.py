"""`tta-bench weights`: list, pull, add, verify, remove. One call each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from tta_bench.weights_store import Added, State

weights = typer.Typer(no_args_is_help=True, help="Weights of published networks: fetch them, add files that you have, verify, list.")

_TRUST = typer.Option("--trust-pickle", metavar="SHA256", help="Load this very file although loading it can run code that is in it.")
_OTHER = typer.Option("--sha256", metavar="SHA256", help="Take this very file, although it is not the one that was published.")


@weights.command("list")
def list_() -> None:
    """List what there is: size, licence, who needs it, whether it is here, where it comes from."""
    from tta_bench.weights_store import states, store_folder

    _print_states(states(), store_folder())


@weights.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of tta-bench weights list.")],
    address: Annotated[str | None, typer.Option(metavar="URL", help="Fetch from here instead; of several files, their folder, ending in /.")] = None,
    trust_pickle: Annotated[str | None, _TRUST] = None,
    sha256: Annotated[str | None, _OTHER] = None,
) -> None:
    """Fetch weights, check them, convert them to safetensors. The same command goes on where a connection broke."""
    from tta_bench import weights_store
    from tta_bench.errors import ConfigError
    from tta_bench.terminal import progress_bars
    from tta_bench.weights_table import entry

    for name in names:
        entry(name)
    one = next((flag for flag, value in (("--address", address), ("--trust-pickle", trust_pickle), ("--sha256", sha256)) if value), None)
    if one and len(names) > 1:
        raise ConfigError(f"{one}: is of one file, and {len(names)} names are given; pull them one by one")
    for name in names:
        with progress_bars() as progress:
            added = weights_store.pull(name, address, progress, trust_pickle=trust_pickle, sha256=sha256, readers={"hdf5": _hdf5})
        _print_added(added)


@weights.command()
def add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint as it was published; it stays as it is.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Which weights it is; by default known by its file name or hash.")] = None,
    trust_pickle: Annotated[str | None, _TRUST] = None,
    sha256: Annotated[str | None, _OTHER] = None,
) -> None:
    """Add a file that you have: it is checked and converted once to safetensors, and only that is used."""
    from tta_bench import weights_store

    _print_added(weights_store.add(Path(file), name, trust_pickle, sha256=sha256, readers={"hdf5": _hdf5}))


@weights.command()
def verify(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="All that are here, by default.")] = None) -> None:
    """Read weights whole and compare them with the hashes that were noted when they were added."""
    from tta_bench import weights_store

    paths = weights_store.verify(names or ())
    for name, path in paths.items():
        typer.echo(f"{name}: as it was added, {path}")
    if not paths:
        typer.echo("no weights are here; `tta-bench weights list` shows what there is")


@weights.command()
def remove(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of tta-bench weights list.")]) -> None:
    """Delete weights from the cache folder, also what was fetched of them in part."""
    from tta_bench import weights_store
    from tta_bench.weights_table import entry

    for name in names:
        entry(name)
    for name in names:
        typer.echo(f"{name}: {'removed' if weights_store.remove(name) else 'was not here'}")


def _hdf5(path: Path) -> dict[str, Tensor]:
    """The one published HDF5 file is YAMNet's."""
    from tta_bench.embedders.yamnet_h5 import read_yamnet_h5

    return read_yamnet_h5(path)


def _print_added(added: Added) -> None:
    for note in added.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{added.name}: {added.path}")


def _print_states(found: Sequence[State], folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from tta_bench.console import console

    out = console()
    table = Table("weights", "MB", "licence", "here", "SHA-256", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state in found:
        entry = state.entry
        here = "there, not as published" if state.status == "there" and entry.hashes_known and not state.official else state.status
        hashes = [(state.source_sha256.get(file.file) or file.sha256 or "not known")[:12] for file in entry.files]
        size = "?" if entry.size is None else f"{entry.size / 1e6:.0f}"
        style = {"absent": "", "damaged": "bold red"}.get(state.status, "green")
        table.add_row(*map(Text, (entry.name, size, entry.licence)), Text(here, style=style), Text("\n".join(hashes)))
    out.print(table)
    for state in found:
        for file in state.entry.files:
            out.print(f"{state.entry.name}, for {', '.join(state.entry.needed_by)}: {file.address}", markup=False, soft_wrap=True)
    out.print(f"kept in {folder}", markup=False, soft_wrap=True)
