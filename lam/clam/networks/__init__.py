"""Inverse and forward dynamics models: what infers a latent action, and what predicts with it."""
