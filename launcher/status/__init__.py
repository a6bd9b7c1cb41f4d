"""What is known of a run from its folder alone: read, judged, shown."""
