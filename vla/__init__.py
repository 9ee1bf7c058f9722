"""Students, the one training loop, and the policy that comes out."""
