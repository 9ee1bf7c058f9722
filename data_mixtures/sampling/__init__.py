"""From sample ids to batches: which windows, in which order, gathered by whom."""
