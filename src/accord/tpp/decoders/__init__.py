"""Decoder families, one per file; what they offer is in `part` and `intensities`."""
