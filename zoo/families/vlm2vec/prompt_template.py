"""The prompt template: how images, instruction and text become one text, here and as a chat template of transformers.

    <image> {instruction} {text}\\n      an input with images or an instruction
    {text}                              a text alone stays as it is

Images before the first text stand before the instruction; later images stay where they are.
Source: VLM2Vec, arXiv 2410.05160, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

IMAGE = None
"""Stands for an image in the result of `apply_template`."""


def apply_template(parts: Sequence[Any], instruction: str | None) -> list[str | None]:
    """Arrange the texts and images of an input as the template says.

    `parts` are texts and images in reading order. The result consists of texts and `IMAGE`, one for each image and in the same
    order; the caller replaces each `IMAGE` by text and joins everything without separators.
    """
    leading_images = next((i for i, part in enumerate(parts) if isinstance(part, str)), len(parts))
    pieces: list[str | None] = [IMAGE] * leading_images
    if instruction:
        pieces.append(instruction)
    pieces += [part if isinstance(part, str) else IMAGE for part in parts[leading_images:]]
    if IMAGE not in pieces and not instruction:
        return [" ".join(piece for piece in pieces if piece is not None)]
    spaced_pieces: list[str | None] = []
    for piece in pieces:
        spaced_pieces += [" ", piece] if spaced_pieces else [piece]
    return [*spaced_pieces, "\n"]


def make_chat_template(image_placeholder: str) -> str:
    """Write the same template in Jinja, over chat messages; the `system` message is the instruction."""
    return (
        "{%- set ns = namespace(lead=[], said=[], rest=[]) -%}"
        "{%- for message in messages -%}{%- for part in message['content'] -%}"
        "{%- if message['role'] == 'system' -%}{%- set ns.said = ns.said + [part['text']] -%}"
        "{%- elif part['type'] != 'image' -%}{%- set ns.rest = ns.rest + [part['text']] -%}"
        f"{{%- elif ns.rest -%}}{{%- set ns.rest = ns.rest + ['{image_placeholder}'] -%}}"
        f"{{%- else -%}}{{%- set ns.lead = ns.lead + ['{image_placeholder}'] -%}}{{%- endif -%}}"
        "{%- endfor -%}{%- endfor -%}"
        "{{- (ns.lead + ns.said + ns.rest) | join(' ') -}}"
        f"{{%- if ns.lead or ns.said or '{image_placeholder}' in ns.rest -%}}{{{{- '\\n' -}}}}{{%- endif -%}}"
    )
