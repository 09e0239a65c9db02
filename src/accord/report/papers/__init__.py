"""Tables for papers: Markdown, LaTeX, HTML and CSV from stored runs."""
