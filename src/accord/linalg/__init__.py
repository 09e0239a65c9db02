"""Pure algebra on small matrices in numpy float64: projections, non-negative least squares, Newton's method."""
