"""Choose the linear layers of a vision-language model that get an adapter."""

from __future__ import annotations

import re

from zoo.core.errors import ZooError
from zoo.families.vlm2vec.spec import Lora
from zoo.families.vlm2vec.vlm import VLM
from zoo.text import lora


def build_target_pattern(vlm: VLM, spec: Lora) -> str:
    """Return a regular expression for the full paths of the linear layers that get an adapter.

    The last names alone would match layers of the vision tower too. A name that the model does not have is left out, because
    models name their layers differently. Raise ZooError if no linear layer matches.
    """
    prefix = "" if spec.vision else rf"{re.escape(vlm.architecture.language_model)}\."
    names = [name for name in spec.modules if name in lora.list_linear_names(vlm.model, prefix)]
    if not names:
        raise ZooError(
            f"lora.modules: the backbone has no linear map called {' or '.join(spec.modules)}; give the last names of "
            "its linear layers"
        )
    return lora.build_target_pattern(vlm.model, names, "lora.modules", prefix)
