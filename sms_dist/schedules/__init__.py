"""How things change over time: sparsity over the phases, the learning rate over the steps."""
