"""Floor 3: student models, one folder each."""
