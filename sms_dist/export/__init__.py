"""Finished models in forms that other programs use."""
