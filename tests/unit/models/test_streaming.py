from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.unit.harness.worlds import CODEC, stirred
from tta_bench.models.bundle import assets, load_network
from tta_bench.models.codec import Codec, CodecShape
from tta_bench.models.streaming import StreamingDecoder, latents_seen, look_ahead

SHAPES = [
    CODEC,
    dataclasses.replace(CODEC, causal=True),
    dataclasses.replace(CODEC, decoder_blocks=6, causal=True),
    dataclasses.replace(CODEC, decoder_blocks=7),
]
LENGTH = 60


def codec_of(shape: CodecShape) -> Codec:
    torch.manual_seed(0)
    return stirred(Codec(shape)).requires_grad_(False)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_sample_depends_on(shape: CodecShape) -> None:
    """By gradients: of the last final sample, and of one in the middle."""
    codec, spl = codec_of(shape), shape.samples_per_latent
    latents = torch.randn(1, shape.channels, LENGTH, requires_grad=True)
    audio = codec.decode(latents)[0]
    for frame in (120, 121, 122, 123):
        first, last = latents_seen(shape, frame)
        middle = audio[320 * frame - 352 : 320 * frame + 672]
        (gradient,) = torch.autograd.grad(middle @ torch.randn(1024), latents, retain_graph=True)
        seen = gradient[0].abs().amax(dim=0).nonzero()[:, 0]
        low, high = latents_seen(shape, frame - 3)[0], latents_seen(shape, frame + 3)[1]  # frames that share these samples
        assert (int(seen.min()), int(seen.max())) == (max(low, 0), high)
        assert low <= first <= last <= high
    final = 50 * spl - look_ahead(shape)
    for sample, expected in ((final - 1, 49), (final + 1, 50)):  # a window begins with a zero
        (gradient,) = torch.autograd.grad(audio[sample], latents, retain_graph=True)
        assert int(gradient[0].abs().amax(dim=0).nonzero().max()) == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [[1] * LENGTH, [4] * 15, [LENGTH], [7, 1, 2, 50]])
def test_streamed_is_decoded(shape: CodecShape, chunks: list[int]) -> None:
    codec = codec_of(shape).double()  # the farthest latents' share of a sample is less than float32 tells
    latents = torch.randn(2, shape.channels, LENGTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = codec.decode(latents)
    decoder, parts, widest = StreamingDecoder(codec), [], []
    codec.decoder.register_forward_hook(lambda module, arguments, output: widest.append(arguments[0].shape[2]))
    for i, part in enumerate(torch.split(latents, chunks, dim=2)):
        parts.append(decoder.push(part))
        there = sum(chunks[: i + 1]) * shape.samples_per_latent
        assert sum(piece.shape[1] for piece in parts) == max(0, there - look_ahead(shape))
    parts.append(decoder.finish())
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
    if chunks[0] == 1:
        assert max(widest) < LENGTH
    with pytest.raises(ValueError, match="no latents came"):
        StreamingDecoder(codec).finish()


def test_a_causal_decoder_has_the_tensors_of_the_other_and_waits_less_than_a_frame() -> None:
    codec, _ = load_network(assets(), "codec", Codec)
    causal = Codec(dataclasses.replace(codec.shape, causal=True))
    causal.load_state_dict(codec.state_dict())
    assert look_ahead(causal.shape) == 352
    assert look_ahead(codec.shape) > 10 * 1280
    latents = torch.randn(1, 16, 8)
    assert not torch.allclose(causal.decode(latents), codec.decode(latents), atol=1e-3)
