"""GSM8K for denoisers trained from scratch, and its data and scorer."""
