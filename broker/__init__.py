"""A broker for direct-to-S3 uploads.

An app's users send video straight to S3. The broker decides who may, with a presigned POST policy; remembers what it
promised; checks what arrived with a HEAD; and hands out signed playback links. The bytes never pass through Python.
"""

from broker.app import create_app, create_router
from broker.settings import Settings, load_settings

__all__ = ["Settings", "create_app", "create_router", "load_settings"]
