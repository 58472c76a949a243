"""The chat template of models that farthing makes from nothing, as jinja source.

    <|system|>text<|user|>text<|assistant|><think>..</think><answer>..</answer><|end|>

No token is spent on newlines. The model opens `<think>` itself; `enable_thinking=false` writes an empty think block
for it instead. Thinking given as `reasoning_content` is put in its tags. Turns before the last user message lose
their thinking: an answer is part of the conversation, the way to it is not.
"""

TEMPLATE = """\
{%- set last = namespace(user=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- set silent = enable_thinking is defined and enable_thinking is false -%}
{%- for message in messages -%}
{%- if message.role in ('system', 'user') -%}
{{- '<|' + message.role + '|>' + message.content -}}
{%- elif message.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- if loop.index0 < last.user -%}
{{- message.content.split('</think>')[-1] -}}
{%- else -%}
{%- if message.reasoning_content -%}
{{- '<think>' + message.reasoning_content + '</think>' -}}
{%- elif silent and '</think>' not in message.content -%}
{{- '<think></think>' -}}
{%- endif -%}
{{- message.content -}}
{%- endif -%}
{{- '<|end|>' -}}
{%- else -%}
{{- raise_exception('role ' + message.role + ' is unknown here: use system, user or assistant') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- if silent -%}{{- '<think></think>' -}}{%- endif -%}
{%- endif -%}
"""
