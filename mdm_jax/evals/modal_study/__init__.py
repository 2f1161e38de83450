"""The design study of one masked stream of several modalities, at small scale."""
