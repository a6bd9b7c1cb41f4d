"""Data sets that are read while training, for what does not fit into memory."""
