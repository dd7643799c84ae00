"""Make the graph of an Lbl2Vec model: texts to vectors, with the cosines to its labels as a second output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from zoo.core.errors import ZooError
from zoo.families.lbl2vec import keyword_counts
from zoo.families.lbl2vec.word_space import HALF_FREQUENCY, WordSpace
from zoo.graph import Graph, TextReader
from zoo.paragraph_vectors.vocabulary import tokenise

ANY = -1
"""In a pattern of ids: any id."""


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


class KeywordEvidence(torch.nn.Module):
    """Moves vectors towards the labels whose keywords occur in the text, as `keyword_counts.compute_keyword_evidence` says.

    Args:
        space: the tokens of `word_tokenizer.make_phrase_tokenizer` to unit vectors (batch, dim).
        phrases: rows of ids, with separators between the words of a phrase.
        pulls: (phrases, dim) float32, the sum of the vectors of each phrase's labels.
        separator: the id between words; smaller ids are words.
        weight: the strength of the evidence.
    """

    patterns: torch.Tensor
    pulls: torch.Tensor

    def __init__(
        self,
        space: torch.nn.Module,
        phrases: Sequence[Sequence[int]],
        pulls: torch.Tensor,
        separator: int,
        weight: float,
    ) -> None:
        super().__init__()
        self.space, self.separator, self.weight = space, separator, weight
        self.longest = 2 + max(map(len, phrases))
        rows = [[separator, *phrase, separator] for phrase in phrases]
        patterns = [[*row, *[ANY] * (self.longest - len(row))] for row in rows]
        self.register_buffer("patterns", torch.tensor(patterns))
        self.register_buffer("pulls", pulls)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the moved vectors."""
        vectors = self.space(input_ids, attention_mask)
        word_counts = (attention_mask * (input_ids < self.separator)).sum(1, keepdim=True).clamp(min=1)
        ids = torch.where(attention_mask > 0, input_ids, self.separator)
        ids = torch.nn.functional.pad(ids, [1, self.longest], value=self.separator)
        length = input_ids.shape[1]
        is_match = torch.ones_like(ids[:, :length, None], dtype=torch.bool)
        for place in range(self.longest):
            pattern = self.patterns[:, place]
            is_match = is_match & ((ids[:, place : place + length, None] == pattern) | (pattern == ANY))
        evidence = (is_match.float().sum(1) @ self.pulls) / word_counts
        moved = torch.nn.functional.normalize(vectors + self.weight * evidence, dim=1)
        return torch.where((evidence != 0).any(1, keepdim=True), moved, vectors)


def make_space_graph(
    space: WordSpace,
    labels: torch.Tensor,
    keywords: Mapping[str, Sequence[str]],
    weight: float,
    options: Mapping[str, Any],
) -> Graph:
    """Return the graph of a word space with scores of the labels.

    Args:
        space: the word space.
        labels: (labels, dim) float32.
        keywords: of each label.
        weight: how much keywords that occur in a text move its vector; 0 for not at all.
        options: further fields of the graph.

    Raises ZooError before training, and if keywords count that have digits or single letters.
    """
    from zoo.paragraph_vectors import inference_graph, step_graph, word_tokenizer

    model, vocabulary, limit = space.model, space.vocabulary, step_graph.MAX_WORDS
    if not model.state:
        raise ZooError("the encoder has not been trained: call fit before you export it")
    weights = torch.from_numpy(vocabulary.compute_rarity_weights(HALF_FREQUENCY))
    network: torch.nn.Module = inference_graph.SpaceGraph(model, weights)
    probes = word_tokenizer.make_probes(vocabulary)
    if not weight:
        tokenizer = word_tokenizer.make_tokenizer(vocabulary, limit)
    else:
        phrases, belongs = keyword_counts.list_phrases(keywords)
        words = [_split_phrase(phrase) for phrase in phrases]
        further = sorted({word for own in words for word in own} - vocabulary.rows.keys())
        tokenizer, separator = word_tokenizer.make_phrase_tokenizer(vocabulary, further, limit)
        rows = [tokenizer.encode(phrase).ids for phrase in phrases]
        pulls = torch.from_numpy(belongs).float() @ labels
        network = KeywordEvidence(network, rows, pulls, separator, weight)
        probes += tuple(
            f"{phrase}, {phrase}_{phrase} 2{phrase} {own}" for phrase, own in zip(phrases, probes, strict=False)
        )
    reader = TextReader(tokenizer.to_str(), limit, adds_special_tokens=False)
    return Graph({"": LabelScores(network, labels)}, reader=reader, takes_int8=False, probes=probes, **options)


def _split_phrase(phrase: str) -> list[str]:
    """Return the words of a phrase. Raises ZooError for one that is not a word of a vocabulary by itself."""
    words = phrase.split()
    wrong = next((word for word in words if tokenise(word) != [word]), None)
    if wrong is not None:
        raise ZooError(
            f"the family lbl2vec cannot be exported as a graph with the keyword {phrase!r}, because {wrong!r} has digits or is "
            "one letter, and the graph reads words of letters: leave the keyword out, or set `keyword_evidence: 0`"
        )
    return words
