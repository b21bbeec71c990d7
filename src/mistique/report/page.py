"""The page of a report: HTML that holds everything it shows. Every text passes through `escape`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version

# Nothing is loaded and nothing is run, whatever a name in a store may try.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
# What is wider than the page scrolls by itself, with a keyboard too.
_SCROLLING = '<div class="wide" tabindex="0">'
_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --soft: #595959; --page: #fff; --line: #d9d9d9; --stripe: #f4f4f4 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --soft: #a9a9a9; --page: #161616; --line: #3a3a3a; --stripe: #1f1f1f }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line) }
a { color: inherit } nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1rem 0 0; padding: 0;
  list-style: none }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0 }
dt { color: var(--soft) } dd { margin: 0 }
.wide { overflow-x: auto; margin: .6rem 0 } .wide:focus-visible { outline: 2px solid var(--soft) }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) td { background: var(--stripe) }
th { font-weight: 600 } small { color: var(--soft) } p { margin: .5rem 0 }
figure { margin: 1rem 0 } figcaption { color: var(--soft); font-size: .9rem }
img { display: block; max-width: 100%; min-width: min(32rem, 160vw); height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 4px }
summary { cursor: pointer } footer { margin-top: 3rem; color: var(--soft); font-size: .85rem }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr } dt { margin-top: .4rem } }
@media print { .wide { overflow: visible } figure, table { break-inside: avoid } }
"""


def page(heading: str, facts: Sequence[tuple[str, str]], sections: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Parameters
    ----------
    heading : str
    facts : sequence of (str, str)
        What is said of the subject above all sections.
    sections : sequence of (str, str)
        Titles, and what is below them as HTML.
    """
    links = "".join(f'<li><a href="#s{i}">{escape(title)}</a></li>' for i, (title, _) in enumerate(sections))
    said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)
    body = "".join(
        f'<section><h2 id="s{i}">{escape(title)}</h2>\n{_scrolling(html)}</section>\n'
        for i, (title, html) in enumerate(sections)
    )
    made = f"mistique {version('mistique')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(heading)}: diagnosis</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{escape(heading)}</h1>
<dl>{said}</dl>
<nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>
{body}</main>
<footer>Made by {escape(made)}</footer>
</body>
</html>
"""


def sentence(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><tr>{header}</tr>{rows}</table>"


def figure(png: bytes, caption: str) -> str:
    """A picture, held in the page, with its caption."""
    held = b64encode(png).decode("ascii")
    text = escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{held}">'
    return f"<figure>{_SCROLLING}{image}</div><figcaption>{text}</figcaption></figure>"


def folded(summary: str, html: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def _scrolling(html: str) -> str:
    """Tables, each in a box that scrolls."""
    return html.replace("<table>", f"{_SCROLLING}<table>").replace("</table>", "</table></div>")
