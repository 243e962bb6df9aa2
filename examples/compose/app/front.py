"""The only door of the market: sends everybody to the side that is active, blue or green.

PUT  /switch?to=green  from now on the other side; GET /switch tells which
GET  /customers        how the customers fare
     all else          what the active side answers; 502 or 504 when it does not
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode

from names import address
from serving import Answer, serve

SIDES = ("blue", "green")
PATIENCE = 1.5
"""Seconds of silence after which a side is given up."""


class Front:
    def __init__(self) -> None:
        self.active = os.environ.get("ACTIVE", SIDES[0])

    def answers(self, method: str, path: str, words: dict[str, str]) -> Answer:
        if path == "/switch":
            return self._switch(method, words)
        if path == "/customers":
            return ask("customers", method, path)
        return ask(f"web-{self.active}", method, f"{path}?{urlencode(words)}")

    def _switch(self, method: str, words: dict[str, str]) -> Answer:
        if method == "PUT":
            if words.get("to") not in SIDES:
                return 400, {"error": f"to: one of {', '.join(SIDES)}"}
            self.active = words["to"]
        return 200, {"active": self.active}


def ask(host: str, method: str, path: str) -> Answer:
    try:
        with closing(HTTPConnection(address(host, PATIENCE), 80, timeout=PATIENCE)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            content: dict[str, Any] = json.loads(answer.read())
            return answer.status, content
    except TimeoutError:
        return 504, {"error": f"{host} does not answer"}
    except (OSError, HTTPException, ValueError) as error:
        return 502, {"error": f"{host}: {error}"}


if __name__ == "__main__":
    serve(Front().answers)
