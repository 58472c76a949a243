"""What clients get, as pydantic models: for the OpenAPI document, and for the tests that hold the server to it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Fields may be added; those that are named here stay."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ErrorBody(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Answer):
    """Every error, whatever its status."""

    error: ErrorBody


class PromptDetails(Answer):
    cached_tokens: int


class CompletionDetails(Answer):
    reasoning_tokens: int


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int = Field(description="Thinking included.")
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails | None = None


class TokenLogprob(Answer):
    """Of the raw model at temperature 1, before biases, penalties and grammars; -9999 for the impossible."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChoiceLogprobs(Answer):
    content: list[ContentLogprob]
    refusal: None
    reasoning: list[ContentLogprob] = Field(
        description="Those of the thinking; `content` describes the content."
    )


class CalledFunction(Answer):
    name: str
    arguments: str


class Call(Answer):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = Field(None, description="The thinking.")
    reasoning: str | None = Field(None, description="The same under its other name.")
    tool_calls: list[Call] | None = None


ItemStatus = Literal["in_progress", "completed", "incomplete"]
FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(Answer):
    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    warnings: list[str] | None = Field(None, description="Fields that were ignored, and advice.")


class TextLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Answer):
    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class TextCompletion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage
    warnings: list[str] | None = None


class OutputText(Answer):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ContentLogprob] = Field(description="Where `include` asks for them.")


class OutputMessage(Answer):
    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class ThoughtText(Answer):
    type: Literal["reasoning_text"]
    text: str


class OutputReasoning(Answer):
    """The thinking."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[Any] = Field(description="Always empty: the thinking itself is there.")
    content: list[ThoughtText]


class OutputCall(Answer):
    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class InputDetails(Answer):
    cached_tokens: int
    cache_write_tokens: int


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int = Field(description="Thinking included.")
    output_tokens_details: CompletionDetails
    total_tokens: int


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"]


class Response(Answer):
    """Of POST /v1/responses; what was asked for is repeated beside these."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: IncompleteDetails | None
    model: str
    system_fingerprint: str
    output: list[OutputReasoning | OutputMessage | OutputCall]
    usage: ResponseUsage
    warnings: list[str] | None = None


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(
        description="Of length 1; base64 of float32 where that is asked for."
    )


class EmbeddingUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """Of POST /v1/embeddings, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    warnings: list[str] | None = None


class Tokenized(Answer):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = Field(description="Where `return_token_strs` asks for them.")


class Detokenized(Answer):
    prompt: str


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    capabilities: dict[str, Any]


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class Status(Answer):
    status: Literal["ok"]
