"""What is trained in a run directory, a file for each: a denoiser, an order, a policy from rewards.

Each binds what stays the same during the run; `runs.training.run_updates` does the updates.
"""
