"""How a run is, from its folder alone."""
