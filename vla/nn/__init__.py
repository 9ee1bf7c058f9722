"""Floor 1: blocks that two models share."""
