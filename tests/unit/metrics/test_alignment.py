from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import MetricError
from tta_bench.metrics.alignment import clap_score


def test_cosines() -> None:
    x = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    assert clap_score(x, 7 * x) == pytest.approx(1.0, rel=1e-14)
    assert clap_score(x, -x) == pytest.approx(-1.0, rel=1e-14)
    assert clap_score(x[:2], x[[1, 0]]) == 0
    assert clap_score([[1.0, 0.0]], [[1.0, 1.0]]) == pytest.approx(np.sqrt(0.5), rel=1e-14)


def test_negative_cosines_are_not_clamped() -> None:
    assert clap_score([[1.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [1.0, 0.0]]) == 0


def test_a_zero_vector_is_an_error() -> None:
    with pytest.raises(MetricError, match="1 of 2 pairs hold an embedding that is a zero vector"):
        clap_score([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
