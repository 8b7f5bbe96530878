"""Networks of the embedded world: codec, text encoder, denoiser, embedder. Shapes: B batch, T samples, C channels, L latent frames,
S tokens, D features, K classes.
"""
