"""The chat templates as Jinja, with what llama.cpp leaves out around a picture.

llama.cpp replaces each picture of a message by a marker, `<__media…__>`, and later the marker by `<image>`, the
features and `</image>`. The published prompts also have the picture's number before it (from 2.6 on), and a line break
between a picture and the text beside it. The templates split each message at the beginning of the markers to add both.
"""

from __future__ import annotations

from omnilmm.prompts.chatml import DEFAULT_SYSTEM

# A message in pieces: the text before the first picture, then "rest of the marker>text" for each picture.
_BODY = r"""
{%- set seen = namespace(pictures=0) -%}
{%- macro body(content) -%}
{%- set pieces = content.split('<__media') -%}
{%- if pieces | length == 1 -%}{{- content -}}{%- else -%}
{{- pieces[0].strip('\n') -}}
{%- for piece in pieces[1:] -%}
{%- set marker = piece.split('>')[0] -%}
{%- set text = (piece.split('>')[1:] | join('>')).strip('\n') -%}
{{- '\n' if not loop.first or pieces[0].strip('\n') else '' -}}
NUMBER
{{- '<__media' + marker + '>' -}}
{{- '\n' + text if text else '' -}}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
_NUMBER = r"""
{{- '<image_id>' ~ seen.pictures ~ '</image_id>' -}}
{%- set seen.pictures = seen.pictures + 1 -%}
"""
_CHATML = r"""
{%- if messages[0].role == 'system' -%}
{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' -}}
DEFAULT
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|im_start|>user\n' + body(message.content) + '<|im_end|>\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\n' + ANSWER + '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}THOUGHT{%- endif -%}
"""
_DEFAULT = "{%- else -%}{{- '<|im_start|>system\\n" + DEFAULT_SYSTEM + "<|im_end|>\\n' -}}"
_THOUGHT = (
    r"{%- if enable_thinking is defined and enable_thinking -%}{{- '<think>\n' -}}"
    r"{%- else -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}"
)
_LLAMA3 = r"""
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}
{{- body(message.content.strip()) + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""


def chat_template(name: str, *, image_ids: bool = True) -> str:
    """Return the Jinja template that renders as a module of `omnilmm.prompts` does.

    Args:
        name: "chatml", "qwen3" or "llama3".
        image_ids: number the pictures, the checkpoint's `use_image_id`; "llama3" never does.
    """
    if name == "llama3":
        return _joined(_BODY.replace("NUMBER", ""), _LLAMA3)
    default, answer, thought = _DEFAULT, "message.content", ""
    if name == "qwen3":
        default, answer, thought = "", "message.content.split('</think>')[-1].lstrip('\\n')", _THOUGHT
    turns = _CHATML.replace("DEFAULT", default).replace("ANSWER", answer).replace("THOUGHT", thought)
    return _joined(_BODY.replace("NUMBER", _NUMBER if image_ids else ""), turns)


def _joined(*parts: str) -> str:
    """Join the parts without the line breaks of this file; those of the prompt are written as escapes."""
    return "".join(line for part in parts for line in part.splitlines())
