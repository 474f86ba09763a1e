"""The imports of a broker and of its commands, done once in the process that both are forked from.

This is imported there and nowhere else. It begins no thread, so that forking is safe.
"""

import gc

import alembic.command
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import typer.rich_utils
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.auto

import broker.cli.checkup
import broker.cli.commands
import broker.cli.dev
import broker.cli.init
import broker.cli.upload
import broker.doctor
import broker.server.serve
import broker.store.migration
import tests.support.dying
from broker.settings import Settings

WARM = (alembic, broker, psycopg, sqlalchemy, tests, typer, uvicorn)
Settings.model_rebuild()
gc.freeze()
