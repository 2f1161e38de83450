"""What things cost: timing, denoiser calls, throughput, shares of the machine's limits."""
