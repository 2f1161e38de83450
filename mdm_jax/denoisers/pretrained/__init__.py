"""Published checkpoints (LLaDA, Dream, SMDM): one network, and their files read and written."""
