"""CLAM: continuous latent action models from observations without actions, and the methods it is measured against."""
