"""Runs: their configuration, the one training loop, what is stored, and statistics over seeds."""
