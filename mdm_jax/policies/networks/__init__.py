"""Flax modules of learned policies."""
