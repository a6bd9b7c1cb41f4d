"""How long a run will take and what it needs: plans and measured rates in, numbers out."""
