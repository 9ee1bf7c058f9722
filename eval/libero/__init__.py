"""LIBERO: its suites and protocols as data, its simulator in an environment of its own, its scripted experts."""
