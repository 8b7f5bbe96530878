"""Metrics: mergeable accumulators over per-clip features, and a plain function for each. numpy float64 only.

Conventions: features are `(N, D)` rows, logits `(N, K)`. `n` counts clips. `reference` always comes before `generated`.
A clip is the unit of resampling: where a clip has several rows (patches), all of them are deleted together.
"""
