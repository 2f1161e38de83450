"""Chains of arithmetic."""
