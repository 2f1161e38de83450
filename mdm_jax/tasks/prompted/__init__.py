"""Natural-language prompts for published checkpoints."""
