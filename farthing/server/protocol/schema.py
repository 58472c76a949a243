"""What clients may send, as pydantic models: the published bounds of the OpenAI API, and ours where they are tighter.

Types are strict (a boolean is no number, "5" is no 5). Fields nobody here knows are accepted and reported back as
warnings, fields that are known and not served are refused: silence would be taken for consent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[int, Field(ge=1, le=2**31)]
Budget = Annotated[int, Field(ge=0, le=2**31)]


class Loose(BaseModel):
    """Strict about types, lenient about names."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


class TextPart(Loose):
    """A piece of a message's content; only text is served."""

    type: Literal["text"]
    text: str


class FunctionCall(Loose):
    name: str = Field(min_length=1, max_length=64)
    arguments: str


class ToolCall(Loose):
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Loose):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = Field(None, description="An assistant turn's thinking.")
    reasoning: str | None = Field(None, description="The same under its other name.")
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(None, max_length=64)
    tool_call_id: str | None = None


class Function(Loose):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Loose):
    type: Literal["function"]
    function: Function


class ChoiceFunction(Loose):
    name: str


class ToolChoice(Loose):
    """This function and no other."""

    type: Literal["function"]
    function: ChoiceFunction


class JsonSchema(Loose):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Loose):
    """The form of the answer. `regex` is an extension: `{"type": "regex", "regex": "(yes|no)"}`."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def complete(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError('type "json_schema" needs json_schema: {"name": .., "schema": ..}')
        if self.type == "regex" and self.regex is None:
            raise ValueError('type "regex" needs regex')
        return self


class StreamOptions(Loose):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Thinking(Loose):
    type: Literal["enabled", "disabled"]
    budget_tokens: Budget | None = None


class Reasoning(Loose):
    effort: Effort | None = None
    enabled: bool | None = None
    max_tokens: Budget | None = None
    exclude: bool | None = None


class TemplateOptions(BaseModel):
    """What a request may tell the chat template; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    enable_thinking: bool | None = None
    thinking: bool | None = None


class Sampling(Loose):
    """Fields that both endpoints have."""

    model: str | None = Field(None, description="One of /v1/models; the first of them when not given.")
    n: int | None = Field(None, ge=1, le=128)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=2**31, description="An extension; 0 and -1 filter nothing.")
    seed: Seed | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    max_tokens: Count | None = None
    user: str | None = None
    regex: str | None = Field(None, description="An extension: the answer matches this from end to end.")


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Count | None = Field(None, description="Thinking and answer together.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    thinking: Thinking | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
    thinking_token_budget: Budget | None = None
    thinking_budget: Budget | None = None
    max_thinking_tokens: Budget | None = None
    continue_final_message: bool | None = Field(
        None,
        description="Go on with the last message, an assistant's that was cut short, instead of beginning one.",
    )
    include_reasoning: bool | None = Field(None, description="False leaves the thinking out of the reply.")
    separate_reasoning: bool | None = Field(
        None, description="False puts the thinking into the content, in tags."
    )


class CompletionRequest(Sampling):
    """POST /v1/completions. A prompt is text, or token ids, or a list of either."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    max_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None
    suffix: str | None = None
    best_of: int | None = None


class EmbeddingRequest(Loose):
    """POST /v1/embeddings. An input is text, or token ids, or a list of either."""

    input: str | list[str] | list[int] | list[list[int]]
    model: str | None = Field(None, description="One of /v1/models; the first of them when not given.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: float32, little-endian."
    )
    dimensions: Count | None = Field(None, description="Only what the vectors have anyway.")
    user: str | None = None


class TokenizeRequest(Loose):
    """POST /tokenize: of a text, or of a conversation."""

    model: str | None = Field(None, description="One of /v1/models; the first of them when not given.")
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(None, min_length=1)
    tools: list[Tool] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    add_generation_prompt: bool | None = Field(None, description="False: no assistant's turn is opened.")
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = Field(
        None, description="What opens a document in front: of a text unless false, of a conversation if true."
    )
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def complete(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages, one of them")
        if self.add_generation_prompt and self.continue_final_message:
            raise ValueError("add_generation_prompt and continue_final_message contradict each other")
        return self


class DetokenizeRequest(Loose):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int]


# Known fields of the published API that are not served, with the values that ask for nothing.
UNSERVED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "modalities": (None, ["text"]),
    "web_search_options": (None,),
    "functions": (None, []),
    "function_call": (None, "none"),
    "prediction": (None,),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "store": (None, False),
}
# The same of POST /v1/responses: here nothing is stored, so there is nothing that a request could go on from.
UNSERVED_RESPONSES: dict[str, tuple[Any, ...]] = {
    "store": (None, False),
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "prompt": (None,),
    "truncation": (None, "disabled"),
    "context_management": (None, []),
}
# The same of POST /tokenize and /detokenize.
UNSERVED_TOKENS: dict[str, tuple[Any, ...]] = {"chat_template": (None,), "mm_processor_kwargs": (None, {})}
# What to do instead, where that is not plain.
INSTEAD = {
    "store": "store: nothing is stored here; leave it out or send false, and the whole conversation each time",
    "previous_response_id": "previous_response_id: nothing is stored here; send the whole conversation as input",
    "conversation": "conversation: nothing is stored here; send the whole conversation as input",
    "background": "background: replies are not kept; wait for this one, or stream it",
    "prompt": "prompt: no prompts are stored here; send instructions and input",
    "truncation": "truncation: nothing is cut here; leave out what need not be read",
}
# Known fields that change nothing about the answer here.
HARMLESS = frozenset(
    {
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "verbosity",
        "moderation",
    }
)
