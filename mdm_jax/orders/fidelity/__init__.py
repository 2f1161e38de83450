"""Orders learned from their likelihood beside sequential decoding."""
