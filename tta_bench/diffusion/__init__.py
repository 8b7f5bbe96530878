"""Diffusion mathematics: schedule, parameterizations, weightings, guidance, samplers, distillation targets. Pure torch.

Notation: x clean latent, eps noise, z = alpha x + sigma eps, alpha^2 + sigma^2 = 1, snr = alpha^2 / sigma^2,
v = alpha eps - sigma x, phi = atan2(sigma, alpha). Time t runs from 0 (clean) to 1 (noise). A network is only a callable
from (z, log_snr) to v. Angles are float64: float16 angles ruin a distillation target.
"""
