"""Parallel text: pairs of sentences from files to batches of tokens."""
