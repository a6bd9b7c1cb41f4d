"""Export of finished models in forms that other programs use."""
