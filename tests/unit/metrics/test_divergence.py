from __future__ import annotations

import numpy as np
import pytest

from tta_bench.errors import InputError, MetricError
from tta_bench.metrics.clips import ClipRows
from tta_bench.metrics.divergence import PROTOCOLS, KLDivergence, kl_divergence

P = np.array([[0.05, 0.1, 0.2, 0.05, 0.15, 0.25, 0.08, 0.12]])
Q = np.array([[0.3, 0.1, 0.2, 0.1, 0.1, 0.02, 0.08, 0.1]])


def test_known_values_and_direction() -> None:
    """Values of stable-audio-metrics' own tests; the reference is the first argument of the divergence."""
    np.testing.assert_allclose(kl_divergence(np.log(P), np.log(Q)), 0.589885181619163, rtol=1e-12)
    np.testing.assert_allclose(kl_divergence(np.log(P), np.log(Q), "kl_audioldm"), 0.5898663401603699, rtol=1e-6)
    p, q = np.log([[0.10, 0.40, 0.50]]), np.log([[0.80, 0.15, 0.05]])
    np.testing.assert_allclose(kl_divergence(p, q), 1.3356800935337299, rtol=1e-12)
    np.testing.assert_allclose(kl_divergence(p, q, "kl_audioldm"), 1.335667371749878, rtol=1e-6)
    assert abs(kl_divergence(q, p) - kl_divergence(p, q)) > 0.05


def test_zero_on_itself_never_negative_and_shift_invariant(rng: np.random.Generator) -> None:
    p, q = 5 * rng.standard_normal((2, 30, 7))
    assert kl_divergence(p, p) == 0
    values = KLDivergence.of(reference=ClipRows.of_matrix(p), generated=ClipRows.of_matrix(q)).compute().contributions
    assert (values > 0).all()
    np.testing.assert_allclose(kl_divergence(p + 3, q - 9), kl_divergence(p, q), rtol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_extreme_logits_stay_finite(protocol: str) -> None:
    assert np.isfinite(kl_divergence([[800.0, -800.0]], [[-800.0, 800.0]], protocol))


def test_pairs_are_matched_by_id_not_by_order(rng: np.random.Generator) -> None:
    p, q = rng.standard_normal((2, 4, 3))
    ids = ["b", "a", "d", "c"]
    order = [2, 0, 3, 1]
    straight = KLDivergence.of(reference=ClipRows.of(ids, list(p)), generated=ClipRows.of(ids, list(q))).compute()
    shuffled = ClipRows.of([ids[i] for i in order], [q[i] for i in order])
    assert KLDivergence.of(reference=ClipRows.of(ids, list(p)), generated=shuffled).compute().value == straight.value
    np.testing.assert_allclose(straight.value, kl_divergence(p, q), rtol=1e-14)


def test_missing_partners_are_listed() -> None:
    with pytest.raises(MetricError, match="2 clips have no partner of the same clip id: only_gen, only_ref") as caught:
        KLDivergence.of(reference=ClipRows.of(["a", "only_ref"], list(P) * 2), generated=ClipRows.of(["a", "only_gen"], list(Q) * 2)).compute()
    assert caught.value.status == "unpaired"


def test_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(InputError, match="known: kl_softmax"):
        kl_divergence(P, Q, "kl_sofmax")
