"""Flax modules that learned policies are made of."""
