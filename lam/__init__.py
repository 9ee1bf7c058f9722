"""Floor 3: teachers. They turn videos into latent actions, written as dataset columns."""
