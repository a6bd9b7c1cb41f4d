"""Training one candidate, recomputing batch norm, evaluating, merging."""
