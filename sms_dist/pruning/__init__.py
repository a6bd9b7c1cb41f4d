"""Pruning: masks, how many weights each layer keeps, and which: the largest, exactly."""
