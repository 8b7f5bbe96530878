"""Data: folders of audio, caption lists and manifests."""
