"""Importing this registers the scenes."""

REGISTERED = True
