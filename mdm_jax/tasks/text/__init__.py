"""Characters of plain text."""
