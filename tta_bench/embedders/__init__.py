"""Embedders: pretrained networks (and one without weights) that turn audio into what metrics compare."""
