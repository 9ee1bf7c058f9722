"""Floor 5: rollouts, one file per suite, and the report."""
