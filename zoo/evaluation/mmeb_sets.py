"""The 36 data sets of MMEB: their meta-task, and whether the published models were trained on their kind.

Source: Jiang et al., "VLM2Vec", arXiv 2410.05160, section 2 and table 1.
"""

from __future__ import annotations

from typing import NamedTuple


class MmebSet(NamedTuple):
    """One data set: its meta-task, and whether it is in the distribution of the benchmark's training sets."""

    meta: str
    trained: bool


_TRAINED = {
    "Classification": ("ImageNet-1K", "N24News", "HatefulMemes", "VOC2007", "SUN397"),
    "VQA": ("OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W"),
    "Retrieval": (
        *("VisDial", "CIRR", "VisualNews_t2i", "VisualNews_i2t", "MSCOCO_t2i", "MSCOCO_i2t", "NIGHTS", "WebQA"),
    ),
    "Grounding": ("MSCOCO",),
}
_NEW = {
    "Classification": ("Place365", "ImageNet-A", "ImageNet-R", "ObjectNet", "Country211"),
    "VQA": ("ScienceQA", "VizWiz", "GQA", "TextVQA"),
    "Retrieval": ("FashionIQ", "Wiki-SS-NQ", "OVEN", "EDIS"),
    "Grounding": ("RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing"),
}
SETS: dict[str, MmebSet] = {
    name: MmebSet(meta, trained)
    for half, trained in ((_TRAINED, True), (_NEW, False))
    for meta, names in half.items()
    for name in names
}
METAS = tuple(_TRAINED)
