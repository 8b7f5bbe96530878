"""Commands that prepare what others need. One call each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audiocaps(
    test: Annotated[str, typer.Option(metavar="CSV", help="AudioCaps' own test.csv.")],
    out: Annotated[str, typer.Option(metavar="CSV", help="Manifest to write; [clips] list = NAME then chooses among its lists.")],
    audioldm_eval: Annotated[str | None, typer.Option(metavar="JSON", help="audiocaps_test_nonrepeat_subset_2.json: 964 clips.")] = None,
    tango: Annotated[str | None, typer.Option(metavar="JSON", help="Tango's test_audiocaps_subset.json: 886 clips.")] = None,
    consistencytta: Annotated[str | None, typer.Option(metavar="JSON", help="ConsistencyTTA's test_audiocaps_subset.json: 882 clips.")] = None,
) -> None:
    """Make one manifest of AudioCaps' test lists from the files that their authors publish."""
    from tta_bench.data.audiocaps import LISTS, write_test_lists
    from tta_bench.errors import ConfigError

    given = {"audioldm_eval": audioldm_eval, "tango": tango, "consistencytta": consistencytta}
    lists = {name: Path(path) for name, path in given.items() if path}
    if not lists:
        raise ConfigError("no list is given; add --audioldm-eval, --tango or --consistencytta with the JSON file")
    counts = write_test_lists(Path(test), lists, Path(out))
    typer.echo(f"{', '.join(f'{name}: {count} clips' for name, count in counts.items())} in {out}")
    for name, count in counts.items():
        if count != LISTS[name]:
            typer.echo(
                f"note: {name} has {LISTS[name]} clips as it is published; numbers of {count} are not comparable with published ones", err=True
            )


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Say what is installed or broken, which weights are there, what can be computed, and the command that mends each gap.

    Exit code 2 where the core does not work.
    """
    from rich.console import Console

    from tta_bench.doctor import diagnose

    with Console(stderr=True).status("importing every package once"):
        found = diagnose()
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        from tta_bench.doctor_report import print_diagnosis

        print_diagnosis(found)
    if not found.core_works:
        raise typer.Exit(2)
