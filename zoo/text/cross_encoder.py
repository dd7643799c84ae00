"""Cross-encoders as teachers: a Transformer that reads an anchor and a candidate together and gives one score.

Only safetensors are read, and only code of installed libraries runs. transformers and sentence-transformers are imported when a
teacher is opened, because families with a teacher encode without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.artefact import headers, preflight, tensors, transformer_folder, weight_names
from zoo.core import atomic_files, faults
from zoo.core.errors import ArtefactError, ZooError, first_line
from zoo.hub.fetch import fetch
from zoo.hub.model_references import locate
from zoo.text import tokenizer_checks
from zoo.text.backbone import hide_progress_bars

if TYPE_CHECKING:
    import sentence_transformers

BATCH_SIZE = 32
TEXT_FILES = ("*.json", "*.txt", "*.model")
"""Files beside the weights that change the scores: config, tokenizer, vocabulary, prompts."""


class CrossEncoderScorer:
    """A cross-encoder that gives a logit for each pair of texts. Its weights are read when it scores first.

    Attributes:
        reference: its name, for messages.
        fingerprint: sha256 of its weights, its config, its tokenizer and the limit of its texts.
    """

    def __init__(
        self,
        reference: str,
        *,
        revision: str | None = None,
        folder: Path = Path(),
        max_length: int | None = None,
        batch_size: int = BATCH_SIZE,
        device: str | None = None,
    ) -> None:
        """Check the files of a cross-encoder. A model of the Hub is fetched from one commit.

        Args:
            reference: Hub id, folder or package:NAME.
            revision: commit, branch or tag of a Hub id.
            folder: where a relative path begins.
            max_length: tokens of a pair; longer pairs are truncated, the longer text first. Default: the model's own limit.
            batch_size: pairs in memory at a time.
            device: for example "cuda". Default: a GPU if there is one, else the CPU.

        Raises ZooError if the model is not there, is not a cross-encoder with one score, or lacks weights of its head.
        """
        self.reference, self._max_length, self._batch_size, self._device = reference, max_length, batch_size, device
        self._folder = locate(reference, folder) or fetch(reference, revision)
        preflight.check_sizes(self._folder, {})
        preflight.check(self._folder)
        self._key_mapping = _check_weights(self._folder, reference)
        self.fingerprint = _compute_fingerprint(self._folder, max_length)
        self._model: sentence_transformers.CrossEncoder | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray[Any, Any]:
        """Return the logits (n,) float32 of n pairs of anchor and candidate, whatever activation the model has."""
        if self._model is None:
            self._model = self._open()
        logits = self._model.predict(
            list(pairs), batch_size=self._batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return np.asarray(logits, np.float32).reshape(len(pairs))

    def release(self) -> None:
        """Give the memory of the weights back. They are read again if the model scores again."""
        self._model = None

    def _open(self) -> sentence_transformers.CrossEncoder:
        import sentence_transformers

        try:
            with hide_progress_bars(), tokenizer_checks.as_zoo_error(f"{self.reference}: cannot be opened"):
                model: Any = sentence_transformers.CrossEncoder(
                    str(self._folder),
                    device=self._device,
                    trust_remote_code=False,
                    local_files_only=True,
                    token=False,
                    model_kwargs={"use_safetensors": True, "dtype": "float32", "key_mapping": self._key_mapping},
                )
            modules: list[Any] = list(model)
        except ZooError:
            raise
        except Exception as error:  # the libraries raise many types for files that are damaged
            faults.refuse_full_memory(error, self.reference)
            raise ZooError(f"{self.reference}: cannot be opened: {first_line(error)}") from error
        if [type(module).__name__ for module in modules] != ["Transformer"]:
            raise ZooError(f"{self.reference}: a cross-encoder of one Transformer is needed, without further modules")
        model.max_length = tokenizer_checks.check_tokenizer(modules[0], self.reference, self._max_length)
        opened: sentence_transformers.CrossEncoder = model.eval()
        return opened


def _check_weights(folder: Path, reference: str) -> Mapping[str, str]:
    """Check that the weights are those of a cross-encoder with one score. Return transformers' mapping of their names."""
    import transformers

    place = transformer_folder.find_transformer(folder)
    config_file = place / "config.json"
    content = preflight.read_json(config_file)
    architectures = content.get("architectures") if isinstance(content, dict) else None
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures or ()):
        raise ZooError(
            f"{reference}: is not a cross-encoder: config.json names {', '.join(map(str, architectures or ['nothing']))}, "
            "not a …ForSequenceClassification; name a cross-encoder, or use the model as an encoder"
        )
    stored = headers.read_all(tensors.list_pretrained_files(place))
    preflight.check_integers(config_file, content, max_layers=len(stored))  # each layer has a tensor
    auto_model: Any = transformers.AutoModelForSequenceClassification  # transformers does not annotate `from_config`
    try:
        with torch.device("meta"):  # shapes without memory
            config = transformers.AutoConfig.from_pretrained(
                place, trust_remote_code=False, local_files_only=True, token=False
            )
            described = auto_model.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises errors of any type for a wrong config
        raise ArtefactError(
            f"{config_file}: no model can be made of it: {first_line(error)}; download the model again"
        ) from None
    if config.num_labels != 1:
        raise ZooError(f"{reference}: gives {config.num_labels} scores for a pair, but a teacher must give one")
    shapes = tensors.get_shapes(described)
    names = weight_names.check(place, stored, shapes, f"{described.base_model_prefix}.")
    # Other models do without a pooler, but the head of a cross-encoder reads it.
    if any("pooler" in name for name in shapes) and not any("pooler" in name for name in stored):
        raise ArtefactError(
            f"{place}: the weights lack the pooler that the head reads; download the model again, or choose another one"
        )
    weight_names.tell(reference, names)
    return names.key_mapping


def _compute_fingerprint(folder: Path, max_length: int | None) -> str:
    place = transformer_folder.find_transformer(folder)
    files = {path for parent in (folder, place) for pattern in TEXT_FILES for path in parent.glob(pattern)}
    hashes = {path.relative_to(folder).as_posix(): atomic_files.sha256(path) for path in files}
    return atomic_files.digest(["cross-encoder", tensors.compute_digest(place), hashes, max_length])
