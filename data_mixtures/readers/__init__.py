"""One reader a published format; all of them give the same `Episode`."""
