"""`python -m broker` is `broker`."""

from broker.cli.commands import app

app(prog_name="broker")
