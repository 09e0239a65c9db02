"""Shared numerics: quadrature on the unit interval, and functions that stay accurate where the plain formula does not."""
