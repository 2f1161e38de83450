"""Scaling laws: forms, robust fits, intervals, compute-optimal sizes, and errors of extrapolation.

Units: `parameters` are numbers, `tokens` positions of clean sequences that training saw, `flops` those of
training in all, losses nats per token. How FLOPs are counted is stated in one place, `columns`.
NumPy and SciPy alone: nothing is compiled.
"""
