"""Which weights stay: masks, allocation over the layers, exact selection."""
