"""The foundations of every room: look-ups, randomness, limits of input, files, tensor files."""
