"""Honest studies of gradient conflict: each asks a question of the survey, and its answer could have been another."""
