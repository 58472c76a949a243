"""POST /tokenize and POST /detokenize, in the words of vLLM: what the model is told, as ids, and ids as text.

No engine is asked, so both answer while it is being loaded. Text never becomes a control token; a conversation gets the
ids that a chat completion begins with.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from farthing.server.protocol.conversation import prompt_of
from farthing.server.protocol.errors import invalid
from farthing.server.protocol.forms import offered_tools
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import checked, read_json
from farthing.server.protocol.schema import (
    UNSERVED_TOKENS,
    ChatRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from farthing.server.protocol.shown import token_text
from farthing.server.protocol.thinking import wish_of
from farthing.server.service import Service


class TokenRoutes:
    """The two handlers; one for a server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def tokenize(self, request: Request) -> Response:
        limits = self._service.limits
        asked = checked(TokenizeRequest, await read_json(request, limits), UNSERVED_TOKENS)
        model = self._service.model(asked.model)
        if len(asked.messages or ()) > limits.messages:
            raise invalid(f"messages: at most {limits.messages}", "messages")
        return JSONResponse(await asyncio.to_thread(self._tokenized, model, asked))

    def _tokenized(self, model: ServedModel, asked: TokenizeRequest) -> dict[str, Any]:
        ids = _plain(model, asked) if asked.messages is None else self._conversation(model, asked)
        texts = [token_text(model, token) for token in ids] if asked.return_token_strs else None
        return {"count": len(ids), "max_model_len": model.context, "tokens": ids, "token_strs": texts}

    def _conversation(self, model: ServedModel, asked: TokenizeRequest) -> list[int]:
        same = ("messages", "tools", "chat_template_kwargs", "continue_final_message")
        chat = ChatRequest.model_validate({name: getattr(asked, name) for name in same})
        tools = offered_tools(model, chat, self._service.limits)
        thinking = wish_of(chat).on is not False
        opened = asked.add_generation_prompt is not False
        rendered = prompt_of(model, chat, tools, thinking, add_generation_prompt=opened)
        start = model.tokenizer.start_ids if asked.add_special_tokens else ()
        return [*start, *rendered.ids]

    async def detokenize(self, request: Request) -> Response:
        asked = checked(DetokenizeRequest, await read_json(request, self._service.limits), UNSERVED_TOKENS)
        model = self._service.model(asked.model)
        if any(not 0 <= token < model.vocab_size for token in asked.tokens):
            raise invalid(f"tokens: token ids go from 0 to {model.vocab_size - 1}", "tokens")
        return JSONResponse({"prompt": await asyncio.to_thread(model.tokenizer.decode, asked.tokens)})


def _plain(model: ServedModel, asked: TokenizeRequest) -> list[int]:
    """A text as POST /v1/completions takes it."""
    start = model.tokenizer.start_ids if asked.add_special_tokens is not False else ()
    return [*start, *model.tokenizer.encode(asked.prompt or "")]
