"""Hawkes processes: the ground truth of simulated studies, with exact likelihood and exact simulation."""
