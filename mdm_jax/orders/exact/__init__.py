"""What an order loses, exactly: measured with the exact conditionals of a known distribution."""
