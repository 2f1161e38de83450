"""Learning the order: posteriors, bounds, search."""
