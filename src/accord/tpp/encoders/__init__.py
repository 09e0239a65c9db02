"""History encoders, one per file; what they all offer is in `encoder`."""
