"""Policies learned from rewards (Jazbec et al., arXiv:2512.09106)."""
