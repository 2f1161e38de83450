"""What the entry points share of the command line."""
