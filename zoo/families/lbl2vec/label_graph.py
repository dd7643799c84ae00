"""Make the graph of an Lbl2Vec model: texts to vectors, with the cosines to its labels as a second output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.families.lbl2vec.word_space import HALF_FREQUENCY, WordSpace
from zoo.graph import Graph, TextReader


class LabelScores(torch.nn.Module):
    """A network to unit vectors (batch, dim), with their cosines to the labels as a second output.

    Args:
        network: takes the arguments of the graph.
        labels: (labels, dim) float32 of unit norm.
    """

    labels: torch.Tensor

    def __init__(self, network: torch.nn.Module, labels: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("labels", labels)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors and cosines (batch, labels)."""
        vectors = self.network(*inputs)
        return vectors, vectors @ self.labels.T


def add_labels(graph: Graph, labels: torch.Tensor, options: Mapping[str, Any]) -> Graph:
    """Return the graph of a sentence encoder with scores of the labels. `options` are further fields of the graph."""
    modules = {side: LabelScores(module, labels) for side, module in graph.modules.items()}
    # Vectors of labels were computed at the whole width, and the first components of a text are another text's topic.
    return replace(graph, modules=modules, can_be_cut=False, layers=None, **options)


def make_space_graph(space: WordSpace, labels: torch.Tensor, options: Mapping[str, Any]) -> Graph:
    """Return the graph of a word space with scores of the labels. Raises ZooError before training."""
    from zoo.paragraph_vectors import inference_graph, word_tokenizer

    model = space.model
    if not model.state:
        raise ZooError("the encoder has not been trained: call fit before you export it")
    weights = torch.from_numpy(space.vocabulary.compute_rarity_weights(HALF_FREQUENCY))
    module = LabelScores(inference_graph.SpaceGraph(model, weights), labels)
    tokenizer = word_tokenizer.make_tokenizer(space.vocabulary, inference_graph.MAX_WORDS)
    reader = TextReader(tokenizer.to_str(), inference_graph.MAX_WORDS, adds_special_tokens=False)
    probes = word_tokenizer.make_probes(space.vocabulary)
    return Graph({"": module}, reader=reader, takes_int8=False, probes=probes, **options)
