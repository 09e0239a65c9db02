"""The tables, each a pure function of stored runs: ``(Study) -> Table``. ``TABLES`` is the registry."""

from accord.report.tables.details import runs, settings
from accord.report.tables.results import results

TABLES = (results, runs, settings)
