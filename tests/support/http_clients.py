"""Defaults of all HTTP clients in a process of tests: they share one TLS context, and wait as long as it takes.

httpx reads the list of certificate authorities for each client, and so for each `httpx.get`: 16 ms of processor time,
before servers that almost all speak plain HTTP. Its timeout of 5 s is less than a loaded machine may need.
"""

from functools import cache

import httpx
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default

vars(default)["create_ssl_context"] = cache(httpx.create_ssl_context)
vars(DEFAULT_TIMEOUT_CONFIG).update(httpx.Timeout(60).as_dict())
