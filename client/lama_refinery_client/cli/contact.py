"""The HTTP client of the command line: it says at once that a service cannot be reached, and goes on trying."""

from __future__ import annotations

from typing import Any

import httpx2

from lama_refinery_client.cli.output import say
from lama_refinery_client.errors import cause_of

FIRST_CONNECT_SECONDS = 1.5  # so that a person reads within two seconds that nobody answers


class Contact(httpx2.Client):
    """Names the service's address at the first connection that fails, before anybody answered."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._service, self._answered, self._told = url, False, False

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if not (self._answered or self._told):
            timeouts = request.extensions["timeout"]
            timeouts["connect"] = min(timeouts["connect"], FIRST_CONNECT_SECONDS)
        try:
            response = super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            if not (self._answered or self._told):
                self._told = True
                say(f"no answer from {self._service} ({cause_of(error)}); trying again. --url names another service")
            raise
        self._answered = True
        return response
