"""What a run leaves in its folder: one schema for the code that writes it and all that reads it."""
