"""Encoding and decoding of video files."""
