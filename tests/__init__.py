"""A package, so that `tests.` means this folder: some distributions install a `tests` package of their own."""
