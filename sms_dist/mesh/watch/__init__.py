"""What notices a lost or hung rank, from inside each rank; start reading at watchdog.py."""
