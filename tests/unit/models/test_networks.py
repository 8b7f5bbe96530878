from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tta_bench.errors import WeightsError
from tta_bench.models.bundle import Embedder, load_network, read_card, save_network, write_card
from tta_bench.models.codec import Codec, CodecShape
from tta_bench.models.denoiser import Denoiser, DenoiserShape, TextCondition
from tta_bench.models.embedder import EmbedderShape
from tta_bench.models.text import TextEncoder, TextShape, Vocabulary

CODEC = CodecShape(channels=4, bands=24, dim=16, hidden=16, encoder_blocks=3, decoder_blocks=3)
DENOISER = DenoiserShape(channels=4, frames=8, dim=32, layers=2, heads=4, text_dim=32)
WORDS = Vocabulary.of(["a dog barks, then rain", "a bird"])


def text_encoder() -> TextEncoder:
    return TextEncoder(WORDS, TextShape(dim=32, layers=1, heads=4, at_most=12))


def stirred(network: nn.Module) -> nn.Module:
    """No weight at its special initial value (zero gates would hide what a test looks for)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


class TestCodec:
    def test_shapes(self) -> None:
        codec = Codec(CODEC)
        latents = codec.encode(torch.zeros(2, 5120))
        assert latents.shape == (2, 4, 4)
        assert codec.decode(latents).shape == (2, 5120)

    @pytest.mark.parametrize("shape", [(2, 5000), (5120,), (2, 0)])
    def test_other_lengths_are_errors(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="multiple of 1280"):
            Codec(CODEC).encode(torch.zeros(shape))

    def test_normalisation_is_undone_by_decode(self) -> None:
        codec = stirred(Codec(CODEC))
        audio = 0.1 * torch.randn(2, 5120)
        before = codec.decode(codec.encode(audio))
        codec.latent_mean.fill_(0.3)
        codec.latent_std.fill_(2.0)
        assert torch.allclose(codec.decode(codec.encode(audio)), before, atol=1e-5)

    def test_the_decoder_sees_a_finite_neighbourhood(self) -> None:
        codec = stirred(Codec(CODEC))
        latents = torch.randn(1, 4, 40)
        changed = latents.clone()
        changed[:, :, 20] += 1.0
        moved = (codec.decode(latents) - codec.decode(changed))[0].abs() > 1e-6
        first, last = int(moved.nonzero()[0]), int(moved.nonzero()[-1])
        assert 10 * 1280 < first < 20 * 1280 < last < 31 * 1280

    def test_the_head_inverts_an_stft(self) -> None:
        """Fed with the magnitudes and phases of real frames, overlap-add gives the audio back."""
        codec = Codec(CODEC)
        audio = torch.randn(1, 320 * 20)
        frames = nn.functional.pad(audio, (352, 352)).unfold(1, 1024, 320) * codec.head.window
        spectrum = torch.fft.rfft(frames)

        class Known(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cat([spectrum.abs().log(), spectrum.angle()], dim=-1)

        codec.head.out = Known()
        assert torch.allclose(codec.head(torch.zeros(1, 16, 20))[0, 400:-400], audio[0, 400:-400], atol=1e-4)


class TestText:
    def test_words(self) -> None:
        assert WORDS.tokens(["A DOG, barks!", "zebra"], 12).tolist()[1] == [1, 0, 0, 0]
        assert len({*WORDS.words}) == len(WORDS) - 2
        assert WORDS.tokens(["a a a"], 2).shape == (1, 2)
        assert WORDS.tokens([""], 5).tolist() == [[1]]
        assert Vocabulary.of(["b b a"]).words == ("b", "a")

    def test_padding_changes_nothing(self) -> None:
        encoder = stirred(text_encoder())
        alone, _ = encoder(encoder.tokenise(["a dog"]))
        padded, mask = encoder(encoder.tokenise(["a dog", "a dog barks, then rain"]))
        assert torch.allclose(alone[0], padded[0, :2], atol=1e-6)
        assert mask.sum(dim=1).tolist() == [2, 6]

    def test_order_matters(self) -> None:
        encoder = stirred(text_encoder())
        a, b = (encoder(encoder.tokenise([text]))[0].mean(dim=1) for text in ("dog then rain", "rain then dog"))
        assert not torch.allclose(a, b, atol=1e-4)


class TestDenoiser:
    def test_starts_at_zero_and_as_its_teacher(self) -> None:
        denoiser = Denoiser(DENOISER)
        z, log_snr, scale = torch.randn(3, 4, 8), torch.tensor([-20.0, 0.0, 20.0]), torch.tensor([1.0, 3.0, 6.0])
        assert torch.equal(denoiser(z, log_snr), torch.zeros(3, 4, 8))
        nn.init.normal_(denoiser.outward.weight)
        assert torch.equal(denoiser(z, log_snr), denoiser(z, log_snr, None, scale))

    def test_everything_it_is_told_matters(self) -> None:
        denoiser = stirred(Denoiser(DENOISER))
        z, log_snr = torch.randn(2, 4, 8), torch.zeros(2)
        text = TextCondition(torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool))
        scale = torch.full((2,), 2.0)
        base = denoiser(z, log_snr, text, scale)
        for other in (
            denoiser(z, log_snr + 1, text, scale),
            denoiser(z, log_snr, None, scale),
            denoiser(z, log_snr, text),
            denoiser(z, log_snr, text, 2 * scale),
        ):
            assert (base - other).abs().max() > 1e-4

    def test_items_of_a_batch_do_not_mix_and_padding_is_not_read(self) -> None:
        denoiser = stirred(Denoiser(DENOISER))
        z, log_snr = torch.randn(3, 4, 8), torch.tensor([-3.0, 0.0, 3.0])
        states, mask = torch.randn(3, 5, 32), torch.tensor([[1, 1, 0, 0, 0], [1] * 5, [1] * 4 + [0]]).bool()
        together = denoiser(z, log_snr, TextCondition(states, mask))
        assert torch.allclose(together[:1], denoiser(z[:1], log_snr[:1], TextCondition(states[:1, :2], mask[:1, :2])), atol=1e-5)

    def test_noise_levels_are_told_apart_where_training_meets_them(self) -> None:
        denoiser = Denoiser(DENOISER)
        with torch.no_grad():
            nn.init.normal_(denoiser.outward.weight)
        z = torch.randn(1, 4, 8)
        at = [denoiser(z, torch.tensor([level])) for level in (-20.0, -10.0, -9.0)]
        assert torch.equal(at[0], at[1])
        assert not torch.equal(at[1], at[2])

    def test_size_of_the_default(self) -> None:
        assert 0.9e6 < sum(p.numel() for p in Denoiser().parameters()) < 1.2e6
        assert sum(p.numel() for p in Codec().parameters()) < 2.5e6


class TestBundle:
    def test_round_trip_in_float16(self, tmp_path: Path) -> None:
        for name, network, kind in (
            ("codec", Codec(CODEC), Codec), ("text", text_encoder(), TextEncoder), ("denoiser", stirred(Denoiser(DENOISER)), Denoiser),
            ("embedder", Embedder(EmbedderShape(3, 16, 16, (4, 4, 8, 8)), WORDS, ("a", "b", "c"), TextShape(16, 1, 2, 12)), Embedder),
        ):  # fmt: skip
            card = save_network(tmp_path, name, network, {"seed": 3})
            loaded, found = load_network(tmp_path, name, kind)
            assert found == json.loads(json.dumps(card))
            assert card["seed"] == 3
            assert not loaded.training
            for key, value in loaded.state_dict().items():
                assert torch.equal(value, network.state_dict()[key].half().to(value.dtype)), key

    def test_what_differs_from_its_card_is_refused(self, tmp_path: Path) -> None:
        save_network(tmp_path, "a", Denoiser(DENOISER), {})
        path = tmp_path / "a.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(WeightsError, match=r"a\.safetensors: .*SHA-256 differs"):
            load_network(tmp_path, "a", Denoiser)
        path.unlink()
        with pytest.raises(WeightsError, match=r"a\.safetensors: is missing"):
            load_network(tmp_path, "a", Denoiser)

    def test_another_kind_or_none_is_refused(self, tmp_path: Path) -> None:
        save_network(tmp_path, "a", Denoiser(DENOISER), {})
        with pytest.raises(WeightsError, match="of kind denoiser, not Codec"):
            load_network(tmp_path, "a", Codec)
        with pytest.raises(WeightsError, match=r"b\.json: is not there .*networks in this folder: a"):
            load_network(tmp_path, "b", Codec)
        card = json.loads((tmp_path / "a.json").read_text())
        for change, message in (({"format": 9}, "update tta_bench"), ({"shape": {"frames": 3, "odd": 1}}, "cannot be built")):
            write_card(tmp_path, "a", card | change)
            with pytest.raises(WeightsError, match=message):
                load_network(tmp_path, "a", Denoiser)

    @pytest.mark.parametrize(
        "change", [{"schedule": {"x": 1}}, {"sha256": "0"}, {"guidance_scales": [1.0, 4.0]}, {"shape": {"dim": 64}}, {"steps": 3}]
    )
    def test_a_card_that_was_changed_is_refused(self, tmp_path: Path, change: dict[str, Any]) -> None:
        card = save_network(tmp_path, "a", Denoiser(DENOISER), {"schedule": {}})
        (tmp_path / "a.json").write_text(json.dumps(card | change))
        with pytest.raises(WeightsError, match=r"a\.json: was changed since it was written"):
            read_card(tmp_path, "a")
        (tmp_path / "a.json").write_text(json.dumps(card | {"scores": {"fad": 1.0}}))  # noted later
        assert read_card(tmp_path, "a")["scores"] == {"fad": 1.0}

    def test_what_float16_cannot_hold_is_not_written(self, tmp_path: Path) -> None:
        network = Denoiser(DENOISER)
        with torch.no_grad():
            network.positions[0, 0] = 1e6
        with pytest.raises(WeightsError, match="positions does not fit into float16"):
            save_network(tmp_path, "a", network, {})
        assert not list(tmp_path.iterdir())
