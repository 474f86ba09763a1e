"""A client of the broker for backends and scripts: issue, upload, wait, link, list, delete.

`Client` blocks, `AsyncClient` awaits; both have the same methods. The guide is infra/guides/python.md.
"""

from broker.client.answers import Issued, Media
from broker.client.asynchronous import AsyncClient
from broker.client.failures import BrokerProblem, ClientError, FileChanged, FileRefused, Unreachable
from broker.client.names import content_type_of
from broker.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "BrokerProblem",
    "Client",
    "ClientError",
    "FileChanged",
    "FileRefused",
    "Issued",
    "Media",
    "Unreachable",
    "content_type_of",
]
