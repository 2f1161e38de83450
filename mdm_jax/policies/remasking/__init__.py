"""Policies that may re-mask what they revealed. They re-mask inside the current block only."""
