"""Every policy under exact conditionals: what its calls lose, in nats."""
