"""The registry of families: the folders of this folder, found by name and imported only when named.

A family is one folder with `spec.py` (a class `Spec`, what a recipe may say) and `encoder.py` (a class `Encoder`, what is
trained), and whatever else only that family needs. A folder that is added here is a family; no list has to be edited.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest

if TYPE_CHECKING:
    from zoo.encoder import Encoder
    from zoo.evaluation.baselines import Baseline
    from zoo.spec import EncoderSpec

BACKBONE_FAMILY = "matryoshka-2d"
"""The family that opens a plain sentence-transformers backbone, untrained."""
ANY_BACKBONE_FAMILY = "dense"
"""The family that opens every other text model, untrained: one whose layers cannot be cut."""
IMAGE_BACKBONE_FAMILY = "equiangular"
"""The family that opens a model of images, untrained: with `head: softmax` its vectors are the features."""
SHARED_BASELINES = ("static.free_baseline:TokenVectors",)
"""Free baselines that one family offers to all others, as `family_folder.module:Class`."""
_HERE = Path(__file__).parent


def names() -> list[str]:
    """Names of all families, sorted: the folder `matryoshka_2d` is the family `matryoshka-2d`."""
    return sorted(path.parent.name.replace("_", "-") for path in _HERE.glob("*/spec.py"))


def load_spec(name: str) -> type[EncoderSpec]:
    """The class of a family's `encoder:` section. It imports pydantic only. Raises ZooError for an unknown family."""
    return _load(name, "spec", "Spec")


def load_encoder(name: str) -> type[Encoder]:
    """The class of a family's encoder; imports torch. Raises ZooError for an unknown family."""
    return _load(name, "encoder", "Encoder")


def load_shared_baselines() -> list[type[Baseline]]:
    """The free baselines that are scored beside encoders of every family they suit; imports torch."""
    references = [reference.partition(":") for reference in SHARED_BASELINES]
    return [getattr(importlib.import_module(f"{__name__}.{module}"), name) for module, _, name in references]


def read_summary(name: str) -> str:
    """The first line of the docstring of a family's folder, without importing the family."""
    text = (_HERE / name.replace("-", "_") / "__init__.py").read_text(encoding="utf-8")
    return text.strip().strip('"').splitlines()[0].strip('"')


def _load(name: str, module: str, attribute: str) -> type:
    if name not in names():
        raise ZooError(f"unknown family {name!r}{suggest(str(name), names())}")
    loaded: type = getattr(importlib.import_module(f"zoo.families.{name.replace('-', '_')}.{module}"), attribute)
    return loaded
