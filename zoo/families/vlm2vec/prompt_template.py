"""How images, instruction and text become one text, here and, as a chat template, in stock libraries.

    <image> {instruction} {text}\\n      with images or an instruction
    {text}                              a text alone stays as it is

Images before the first text stand before the instruction, later ones where they are.
Source: VLM2Vec, arXiv 2410.05160, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

IMAGE = None
"""Stands for an image in what `worded` returns."""


def worded(parts: Sequence[Any], instruction: str | None) -> list[str | None]:
    """Texts and `IMAGE`, to be joined as they are. `parts` are texts and images in order."""
    leading = next((i for i, part in enumerate(parts) if isinstance(part, str)), len(parts))
    rest = [part if isinstance(part, str) else IMAGE for part in parts[leading:]]
    words = [*[IMAGE] * leading, *([instruction] if instruction else []), *rest]
    if IMAGE not in words and not instruction:
        return [" ".join(word for word in words if word is not None)]
    spaced: list[str | None] = []
    for word in words:
        spaced += [" ", word] if spaced else [word]
    return [*spaced, "\n"]


def chat_template(marker: str) -> str:
    """The same as a Jinja template over messages whose `system` part is the instruction; `marker` stands for an image."""
    return (
        "{%- set ns = namespace(lead=[], said=[], rest=[]) -%}"
        "{%- for message in messages -%}{%- for part in message['content'] -%}"
        "{%- if message['role'] == 'system' -%}{%- set ns.said = ns.said + [part['text']] -%}"
        "{%- elif part['type'] != 'image' -%}{%- set ns.rest = ns.rest + [part['text']] -%}"
        f"{{%- elif ns.rest -%}}{{%- set ns.rest = ns.rest + ['{marker}'] -%}}"
        f"{{%- else -%}}{{%- set ns.lead = ns.lead + ['{marker}'] -%}}{{%- endif -%}}"
        "{%- endfor -%}{%- endfor -%}"
        "{{- (ns.lead + ns.said + ns.rest) | join(' ') -}}"
        f"{{%- if ns.lead or ns.said or '{marker}' in ns.rest -%}}{{{{- '\\n' -}}}}{{%- endif -%}}"
    )
