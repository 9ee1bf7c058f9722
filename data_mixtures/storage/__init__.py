"""Data sets as flat memory maps, their frames, and copies of what lies behind a URL."""
