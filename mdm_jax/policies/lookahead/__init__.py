"""Policies that call the denoiser themselves to see what a decision would lead to."""
