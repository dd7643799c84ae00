"""A tiny late-interaction encoder, and rows for each of its losses."""

from __future__ import annotations

import tiny

from zoo.families.late_interaction.encoder import Encoder
from zoo.families.late_interaction.spec import Spec


def make_spec(folder, kind: str = "bert", **options) -> Spec:
    """The section of an encoder on a new tiny backbone; `options` are fields of the spec."""
    fields = {"dim": 12, "backbone": "", **options}
    return Spec(
        family="late-interaction", **{**fields, "backbone": fields["backbone"] or tiny.backbone(folder / kind, kind)}
    )


def build(folder, kind: str = "bert", **options) -> Encoder:
    """Build an encoder on a new tiny backbone."""
    return Encoder.build(make_spec(folder, kind, **options), seed=3)
