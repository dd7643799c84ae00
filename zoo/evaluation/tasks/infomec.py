"""`task: infomec`: whether each dimension of an encoder's vectors follows one source of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.data.spec import Data
from zoo.evaluation.task import MeasuredTask, Roles, Scores

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder


class Infomec(MeasuredTask):
    """Inputs with the labels of their true sources, each a column, for any encoder that reads them. Main score: infom.

    Source: Hsu et al., "Disentanglement via Latent Quantization", arXiv 2305.18378.
    """

    optional = {"data": {"text": "text", "image": "image", "vector": "vector"}}

    task: Literal["infomec"]
    data: Data = Field(description="Inputs, and a column for each source.")
    sources: tuple[str, ...] = Field(min_length=1, description="Columns of the sources.")

    @property
    def roles(self) -> dict[str, Roles]:  # type: ignore[override]
        """The columns of the sources."""
        return {"data": dict.fromkeys(self.sources, "label")}

    def find_caveat(self, details: Mapping[str, Any]) -> str:
        """Latents that are the same for most inputs: the measures count active latents only, so a few can score high."""
        is_active = details.get("active") or []
        active, total = sum(is_active), len(is_active)
        return f"only {active} of {total} latents differ between inputs" if 2 * active < total else ""

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """InfoMEC, MIG, SAP and DCI of the encoder's vectors."""
        from zoo.metrics import infomec_of_encoder

        return infomec_of_encoder.measure(encoder, rows, self.sources)
