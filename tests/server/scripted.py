"""A server whose replies on the chat page are known beforehand: a grammar leaves the model nothing else to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farthing.server.pages import history_routes
from farthing.server.protocol.schema import ChatRequest


def follow(script: Path) -> None:
    """From now on every reply of the chat page says what stands in the file by then; an empty file leaves it free."""
    prepare = history_routes.prepare_chat

    async def prepared(service: Any, judge: Any, request: ChatRequest) -> Any:
        said = script.read_text(encoding="utf-8")
        wanted = {"regex": re.escape(said)} if said else {}
        return await prepare(service, judge, request.model_copy(update=wanted))

    history_routes.prepare_chat = prepared
