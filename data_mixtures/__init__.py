"""Floor 0: episodes in any format become one typed `Batch`. No module here holds parameters."""
