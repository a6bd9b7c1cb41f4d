"""What people read of a run: tables, out of its summaries."""
