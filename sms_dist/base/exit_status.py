"""What a process of ours ends with, for whoever started it."""

DONE = 0
FAILED = 1
BAD_INPUT = 2  # nothing was begun, nothing was written
STOPPED = 75  # on request: the same command goes on (EX_TEMPFAIL of sysexits.h)
