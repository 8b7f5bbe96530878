"""A stand-in for the torch.hub repository of VGGish, with what is asked of it: `embeddings`, `postprocess`, `forward(samples, rate)`.

The front end is written in plain numpy after the description of VGGish, apart from what it is compared with.
"""

dependencies = ["torch", "numpy"]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

_ADDRESS = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"


def _mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _patches(samples):
    """(T,) at 16 kHz -> (P, 1, 96, 64)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([samples[start : start + 400] * window for start in range(0, len(samples) - 399, 160)])
    edges, bins = np.linspace(_mel(125.0), _mel(7500.0), 66), _mel(np.arange(257) * 16_000 / 512)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0.0, np.minimum(rising, falling))
    bank[0] = 0.0
    log_mel = np.log(np.abs(np.fft.rfft(frames, 512)) @ bank + 0.01)
    count = len(log_mel) // 96
    return torch.from_numpy(log_mel[: 96 * count].reshape(count, 1, 96, 64).astype(np.float32))


class _Vggish(nn.Module):
    def __init__(self):
        super().__init__()
        layers, before = [], 1
        for channels in (64, None, 128, None, 256, 256, None, 512, 512, None):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()] if channels else [nn.MaxPool2d(2, 2)]
            before = channels or before
        self.features = nn.Sequential(*layers)
        sizes = (512 * 4 * 6, 4096, 4096, 128)
        self.embeddings = nn.Sequential(*(layer for i in range(3) for layer in (nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU())))
        self.postprocess = True

    def forward(self, samples, rate):
        assert rate == 16_000
        maps = self.features(_patches(samples)).transpose(1, 3).transpose(1, 2)
        rows = self.embeddings(maps.reshape(len(maps), -1))
        return torch.clamp(255 * rows, 0, 255).round() if self.postprocess else rows


def vggish():
    network = _Vggish()
    network.load_state_dict(torch.hub.load_state_dict_from_url(_ADDRESS, progress=False))
    return network
