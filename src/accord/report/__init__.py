"""The report: stored runs -> one interactive HTML page (``page.write``) or figures for papers (``figures.write``)."""
