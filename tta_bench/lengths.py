"""Mean length of generated and of reference clips: scores of clips of other lengths are of something else."""

from __future__ import annotations

MARGIN = 0.1  # of the reference's mean length


def lengths_differ(generated_s: float, reference_s: float) -> bool:
    """Whether mean lengths differ by more than a tenth of the reference's."""
    return abs(generated_s - reference_s) > MARGIN * reference_s


def length_note(generated_s: float, reference_s: float) -> str:
    """What a reader must know of mean lengths that differ."""
    return (
        f"generated clips last {generated_s:.3g} s on average, the reference's {reference_s:.3g} s; length changes FAD, KAD, KL and IS by itself, "
        "so compare only with scores of clips as long"
    )
