"""The (candidate x data) mesh: its groups, its collectives, and who watches over its ranks."""
