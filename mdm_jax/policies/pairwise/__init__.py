"""Policies that ask which positions depend on each other, pair by pair."""
