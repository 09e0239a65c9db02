"""Shared numerics: quadrature on the unit interval, and functions that stay accurate where plain formulas do not."""
