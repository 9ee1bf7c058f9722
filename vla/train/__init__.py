"""Floor 2: the one training loop. It names no stage and no model."""
