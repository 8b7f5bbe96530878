"""Embedders: pretrained networks (and two without weights) that turn audio into what metrics compare."""
