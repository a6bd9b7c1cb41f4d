"""What survives a run: atomic folders, journal, progress files, TensorBoard."""
