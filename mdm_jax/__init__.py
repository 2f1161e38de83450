"""Masked diffusion models in JAX, and the order in which they generate."""
