"""`python -m mistique` is the `mistique` command."""

from mistique.cli import app

app(prog_name="mistique")
