"""`python -m broker` is `broker`."""

from broker.cli import app

app(prog_name="broker")
