"""Run directories: what they hold, and loading a denoiser or a policy from one."""
