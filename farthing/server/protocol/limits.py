"""How much one request and all of them together may ask for; checked before the engine hears of anything.

`docs/serving.md` shows this table; a limit that is reached is answered with an error that names it, never by cutting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Limits:
    """Each with what it bounds."""

    body_bytes: Annotated[int, "bytes of a body"] = 4 << 20
    header_bytes: Annotated[int, "bytes of all headers"] = 16 << 10
    body_seconds: Annotated[float, "seconds a body may take to arrive"] = 30.0
    messages: Annotated[int, "messages of a conversation"] = 2000
    documents: Annotated[int, "documents"] = 200
    document_bytes: Annotated[int, "bytes of a document, as UTF-8"] = 1 << 20
    pdf_bytes: Annotated[int, "bytes of a PDF"] = 16 << 20
    pdf_pages: Annotated[int, "pages of a PDF"] = 1000
    pdf_seconds: Annotated[float, "seconds that reading a PDF may take"] = 60.0
    passages: Annotated[int, "passages of documents in a prompt"] = 24
    passage_tokens: Annotated[int, "tokens of them, with what is said about them"] = 2048
    prompts: Annotated[int, "replies of one text completion: prompts times `n`"] = 64
    inputs: Annotated[int, "inputs of one request for embeddings"] = 64
    choices: Annotated[int, "`n`"] = 16
    top_logprobs: Annotated[int, "`top_logprobs`, and `logprobs` of a text completion"] = 20
    logit_bias: Annotated[int, "tokens in `logit_bias`"] = 300
    stop_strings: Annotated[int, "strings in `stop`"] = 4
    stop_bytes: Annotated[int, "bytes of each of them"] = 256
    schema_bytes: Annotated[int, "bytes of a JSON schema or a regular expression"] = 64 << 10
    schema_depth: Annotated[int, "levels of a JSON schema"] = 32
    tools: Annotated[int, "tools"] = 64
    grammar_seconds: Annotated[float, "seconds a grammar may take to compile"] = 5.0
    queued_requests: Annotated[int, "replies that may wait, beyond those being written"] = 64
    queued_tokens: Annotated[int, "prompt tokens that may wait"] = 1 << 18
    queue_seconds: Annotated[float, "seconds a request may wait for its first token"] = 60.0
    unstreamed_seconds: Annotated[
        float, "seconds that a reply which is not streamed may be expected to take"
    ] = 540.0
    request_seconds: Annotated[float, "seconds any reply may take"] = 3600.0
    keepalive_seconds: Annotated[float, "seconds of silence on a stream before a comment is sent"] = 10.0
