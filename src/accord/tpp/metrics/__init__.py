"""Measurements of predictions of marks, times and whole futures: pure functions of tensors that know no model."""
