"""Quantiles of states and actions, streamed and pooled, and the normalisation made of them."""
