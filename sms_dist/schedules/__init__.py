"""Schedules: the sparsity over the phases, the learning rate over the steps."""
