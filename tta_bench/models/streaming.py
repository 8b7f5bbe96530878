"""Decoding latents as they come: what of the audio is final already, and how far back a decoder looks."""

from __future__ import annotations

import torch
from torch import Tensor

from tta_bench.models.codec import HOP, N_FFT, Codec, CodecShape

_MARGIN = (N_FFT - HOP) // 2  # of a frame's window, to each side of its hop
_FAR = 1 << 20


def latents_seen(shape: CodecShape, frame: int) -> tuple[int, int]:
    """First and last latent frame that an STFT frame of the decoder depends on."""
    third = shape.decoder_blocks // 3
    before, after = (6, 0) if shape.causal else (3, 3)  # of a ConvNeXt block
    first = last = frame
    for blocks, wider in ((shape.decoder_blocks - 2 * third, False), (third, True), (third, True)):
        if wider:  # a transposed convolution of stride 2 lies in between
            first, last = first // 2, last // 2
        first, last = first - blocks * before, last + blocks * after
    return (first - 2, last) if shape.causal else (first - 1, last + 1)


def look_ahead(shape: CodecShape) -> int:
    """Samples at the end of decoded latents that the next ones still change."""
    frame = 4 * _FAR - 1
    while latents_seen(shape, frame)[1] >= _FAR:
        frame -= 1
    return shape.samples_per_latent * _FAR - (HOP * (frame + 1) - _MARGIN)


class StreamingDecoder:
    """Latents (B, C, n) in, the samples that are final out: joined they are `codec.decode` of all. Work does not grow with the clip."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._look_ahead = codec, look_ahead(codec.shape)
        self._window: Tensor | None = None
        self._start = 0  # of the window, in latents
        self._sent = 0  # samples

    def push(self, latents: Tensor) -> Tensor:
        """(B, samples), none of them where nothing is final yet."""
        self._window = latents if self._window is None else torch.cat([self._window, latents], dim=2)
        return self._up_to(self._length - self._look_ahead)

    def finish(self) -> Tensor:
        """The rest. Raises ValueError where no latents came."""
        if self._window is None:
            raise ValueError("no latents came")
        return self._up_to(self._length)

    def keep(self, on: Tensor) -> StreamingDecoder:
        """The decoder of some of the clips, where the others have ended. on: (B,) bool. Raises ValueError where no latents came."""
        if self._window is None:
            raise ValueError("no latents came")
        kept = StreamingDecoder(self._codec)
        kept._window, kept._start, kept._sent = self._window[on], self._start, self._sent
        return kept

    @property
    def device(self) -> torch.device:
        """Of the codec."""
        return next(self._codec.parameters()).device

    @property
    def _length(self) -> int:
        """Samples of all latents so far."""
        assert self._window is not None
        return (self._start + self._window.shape[2]) * self._codec.shape.samples_per_latent

    def _up_to(self, end: int) -> Tensor:
        assert self._window is not None
        if end <= self._sent:
            return self._window.new_zeros(len(self._window), 0)
        earliest = max(0, -(-(self._sent - (N_FFT - _MARGIN) + 1) // HOP))  # frame whose window holds the next sample
        start = max(self._start, latents_seen(self._codec.shape, earliest)[0])
        self._window, self._start = self._window[:, :, start - self._start :], start
        offset = start * self._codec.shape.samples_per_latent
        audio = self._codec.decode(self._window)[:, self._sent - offset : end - offset]
        self._sent = end
        return audio
