"""LatBot's latent action model: a VLM encoder and a SANA-style unified decoder."""
