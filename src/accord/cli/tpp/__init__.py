"""``accord tpp``: fit, evaluate, predict, simulate, plot, anomalies, conflict."""

from accord.cli.tpp.verbs import app as app
