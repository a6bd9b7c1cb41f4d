"""Masks and soups where somebody else's trainer runs the loop: Hugging Face, Lightning."""
