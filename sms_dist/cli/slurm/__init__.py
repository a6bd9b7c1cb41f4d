"""Jobs: the sbatch script, the copy of the code, submitting, going back into the queue."""
