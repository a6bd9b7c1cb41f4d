"""A grid of experiments: thought through, shown, run side by side."""
