"""Orders learned by variational inference (Fox et al., arXiv:2602.23968)."""
