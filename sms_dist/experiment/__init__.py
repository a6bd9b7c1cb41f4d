"""The steps of the algorithm with their records: done once, found again by later starts."""
