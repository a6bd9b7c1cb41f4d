"""The run folder: its files and their schema, atomic folders, journal, lock, TensorBoard."""
