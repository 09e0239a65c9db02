"""A sheet as Markdown, LaTeX, HTML or CSV; names are escaped, whatever is in them."""

from __future__ import annotations

import csv
import html
import io
import math
import re
import unicodedata
from collections.abc import Callable

from accord.report.papers.sheet import Cell, Head, Sheet

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}", "±": r"$\pm$", "−": "$-$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "Δ": r"$\Delta$", "·": r"$\cdot$", "–": "--", "‘": "`", "’": "'", "×": r"$\times$",
    "∞": r"$\infty$", "\u00a0": "~", "χ": r"$\chi$", "²": r"$^2$",
}  # fmt: skip  # brackets and stars: after a line break LaTeX would read them as its argument


def markdown(sheet: Sheet) -> str:
    r"""A table of GitHub's kind, its columns aligned.

    Example:
        >>> print(markdown(Sheet("n", "T", "C.", ("method",), (Head("a_b"),), ((("x|y",), (None,)),))))
        **T**
        <BLANKLINE>
        | method | a\_b |
        | :----- | ---: |
        | x\|y   |    – |
        <BLANKLINE>
        C.
        <BLANKLINE>
    """
    escape = _markdown
    table = _cells(sheet, escape, lambda text: f"**{text}**")
    widths = [max(3, *(_width(row[i]) for row in table)) for i in range(len(table[0]))]
    left = len(sheet.words)
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        [text + " " * (w - _width(text)) if i < left else " " * (w - _width(text)) + text
         for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        for row in table
    ]  # fmt: skip
    body = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    return f"**{escape(sheet.title)}**\n\n{body}\n\n{escape(sheet.caption)}\n"


def latex(sheet: Sheet) -> str:
    """A table environment with the rules of booktabs."""
    table = _cells(sheet, escape_latex, lambda text: rf"\textbf{{{text}}}")
    lines = [f"  {' & '.join(row)} \\\\" for row in table]
    layout = "l" * len(sheet.words) + "r" * len(sheet.heads)
    return "\n".join(
        [
            r"% in the preamble: \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(f'{sheet.title}. {sheet.caption}')}}}",
            rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', sheet.name).strip('-')}}}",
            rf"  \begin{{tabular}}{{{layout}}}",
            r"  \toprule",
            lines[0],
            r"  \midrule",
            *lines[1:],
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape_latex(text: str) -> str:
    r"""Text that LaTeX sets as it is; letters that its standard fonts lack become their code point.

    Example:
        >>> print(escape_latex("50 % of a_b & {c}"))
        50 \% of a\_b \& \{c\}
    """
    return "".join(_latex(character) for character in " ".join(text.split(" ")).replace("\n", " "))


def page(sheet: Sheet) -> str:
    """A page of its own that needs nothing else."""
    table = _cells(sheet, html.escape, lambda text: f"<strong>{text}</strong>")
    left = len(sheet.words)

    def row(cells: list[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=word' if i < left else ''}>{text}</{tag}>" for i, text in enumerate(cells))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table[1:])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(sheet.title)}</title>\n"
        f"<style>\n{CSS}</style>\n</head>\n<body>\n<figure>\n<table>\n<thead><tr>{row(table[0], 'th')}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n"
        f"<figcaption><b>{html.escape(sheet.title)}.</b> {html.escape(sheet.caption)}</figcaption>\n</figure>\n"
        "</body>\n</html>\n"
    )


CSS = """:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }
figure { margin: 0; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: right; white-space: nowrap; }
.word { text-align: left; }
thead tr, tbody tr:last-child { border-bottom: 1px solid; }
thead tr { border-top: 1px solid; }
figcaption { max-width: 50rem; margin-top: 0.7rem; opacity: 0.75; }
"""


def table(sheet: Sheet) -> str:
    """One line per cell with all digits; what the other formats show in per cent is a share here."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", *sheet.words, "column", "mean", "low", "high", "seeds", "best"])
    for words, cells in sheet.rows:
        for head, cell in zip(sheet.heads, cells, strict=True):
            if cell is not None:
                numbers = ["" if math.isnan(value) else repr(value) for value in cell.value[:3]]
                name = head.name.replace(" %", "") if head.factor != 1 else head.name
                writer.writerow([sheet.title, *words, name, *numbers, cell.value.seeds, int(cell.best)])
    return out.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Sheet], str]]] = {
    "md": (".md", markdown),
    "latex": (".tex", latex),
    "html": (".html", page),
    "csv": (".csv", table),
}


def shown(head: Head, cell: Cell | None) -> str:
    """A cell as text: ``0.913 ± 0.004``."""
    if cell is None or math.isnan(cell.value.mean):
        return "–"

    def fixed(value: float, sign: str = "") -> str:
        text = f"{value * head.factor:{sign}.{head.decimals}f}"
        return (text.lstrip("+-") if float(text) == 0 else text).replace("-", "−")

    text = fixed(cell.value.mean, "+" if head.signed else "")
    return text if math.isnan(cell.value.low) else f"{text} ± {fixed(cell.value.half)}"


def _cells(sheet: Sheet, escape: Callable[[str], str], mark: Callable[[str], str]) -> list[list[str]]:
    found = [[escape(text) for text in (*sheet.words, *(head.name for head in sheet.heads))]]
    for words, cells in sheet.rows:
        texts = [(escape(shown(head, cell)), cell) for head, cell in zip(sheet.heads, cells, strict=True)]
        numbers = [mark(text) if cell is not None and cell.best else text for text, cell in texts]
        found.append([*map(escape, words), *numbers])
    return found


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_<>\[\]`&#~])", r"\\\1", text).replace("\n", " ")


def _latex(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if character.isascii():
        return character if character.isprintable() else " "
    return character if character.isalpha() and ord(character) < 0x180 else f"{{[}}U+{ord(character):04X}{{]}}"


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
