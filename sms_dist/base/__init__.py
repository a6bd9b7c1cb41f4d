"""What every room uses: look-ups, randomness, limits of input, atomic files, tensor files."""
