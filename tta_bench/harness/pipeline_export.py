"""Students of a pipeline as pipelines: a folder that stock diffusers loads and runs, with a card that says what it is."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tta_bench.errors import StorageError
from tta_bench.files import cannot_write, write_text
from tta_bench.systems.hf import quiet
from tta_bench.systems.pipeline import Pipeline
from tta_bench.systems.pipeline_files import CARD
from tta_bench.systems.schedulers import trailing_ddim


def student_scheduler(teacher: Any) -> Any:
    """DDIM on the teacher's noise schedule over the trailing grid, for a network that predicts v."""
    return trailing_ddim(teacher, prediction_type="v_prediction")


def export_student(teacher: Pipeline, denoiser: Any, folder: Path, card: Mapping[str, Any]) -> None:
    """Write the teacher's pipeline with `denoiser` (guidance folded in) and DDIM in place of its own; the folder appears once it is whole."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        with quiet():
            teacher.save(temporary, denoiser, student_scheduler(teacher.own_scheduler))
        write_text(temporary / CARD, json.dumps(dict(card), indent=1) + "\n")
        if folder.exists():
            raise StorageError(f"{folder}: is there already, as another student; delete it, or choose another --out")
        temporary.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
