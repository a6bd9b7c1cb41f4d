"""Sparse Model Soups: prune, retrain m copies side by side, average them, prune harder."""

__version__ = "0.1.0"
