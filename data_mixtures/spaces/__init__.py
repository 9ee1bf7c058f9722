"""The unified spaces, and how every robot's columns come into them."""
