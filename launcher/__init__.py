"""How processes start: what torchrun runs on every rank, the `sms-dist` command, Slurm scripts."""
