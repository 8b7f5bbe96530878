"""The sounds of SynthCaps' event classes: plain signal processing at 16 kHz.

A renderer is `sound(pitch, rate, samples, rng) -> (samples,) float64` of any scale. pitch: factor on its base frequencies, about 0.62 (low),
1 or 1.6 (high). rate: factor on how fast it repeats or moves, about 0.6 (slow), 1 or 1.7 (fast). Everything else (timbre, timing jitter, small
detuning) varies with `rng`, so that no two clips are alike.
"""
