"""Keeps secrets out of everything that is written or shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Redactor:
    """Replaces each secret's value by `${NAME}`, as it stands and as URLs, JSON and base64 write
    it. Longer values go first, so that a secret inside another does not spoil it."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        pairs: dict[str, str] = {}
        if secrets:
            import base64
            from urllib.parse import quote, quote_plus
        for name, value in (secrets or {}).items():
            if not value:
                continue
            shapes = (
                value,
                quote(value, safe=""),
                quote(value),
                quote_plus(value),
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
                repr(value)[1:-1],
                base64.b64encode(value.encode()).decode().rstrip("="),
            )
            for shape in shapes:
                pairs.setdefault(shape, f"${{{name}}}")
        self._pairs = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def text(self, text: str) -> str:
        for value, name in self._pairs:
            if value in text:
                text = text.replace(value, name)
        return text

    def json(self, value: Any) -> Any:
        """The same value with every string in it redacted, the keys of objects too."""
        if not self._pairs:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.json(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.json(item) for item in value]
        return value


NOTHING_SECRET = Redactor()
