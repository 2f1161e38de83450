"""Forms of the posterior over orders: one file each."""
