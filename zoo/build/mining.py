"""Adds mined hard negatives to the training rows of a recipe, as `mine:` of its data section says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import data, families, pretrained
from zoo.build.training_data import make_lock_entry
from zoo.core import atomic_files, confinement
from zoo.core.errors import DataError, ZooError
from zoo.data import Table
from zoo.data.spec import Mine
from zoo.data.stored import filter_table
from zoo.data.table import compute_fingerprint
from zoo.encoder import Encoder
from zoo.hub import model_references
from zoo.mining import mine
from zoo.mining.mine import Mined, Miner, Rows, ScorePairs
from zoo.recipe.mining_checks import BACKBONE, CORPUS_ROLES, list_negative_roles
from zoo.recipe.recipe import Recipe

Say = Callable[[str], None]
CORPUS = "mined corpus"
"""The name of the corpus in lock.json."""
OWN_TEXTS = "the positives and negatives of the training rows"
MAX_SHOWN = 200  # characters of a text of an example


def read_corpus(recipe: Recipe[Any]) -> Table | None:
    """Return the texts of `mine.corpus`; None if the recipe mines its own training rows, or not at all."""
    section = recipe.mine
    if section is None or section.corpus is None:
        return None
    return data.read(section.corpus, CORPUS_ROLES, folder=recipe.folder)


def lock_corpus(corpus: Table | None) -> dict[str, Any]:
    """Return the entry of the corpus in lock.json, by its name; {} without a corpus."""
    return {} if corpus is None else {CORPUS: make_lock_entry(corpus)}


def mine_recipe(
    recipe: Recipe[Any],
    tables: Mapping[str, Table],
    corpus: Table | None,
    cache: Path,
    say: Say = lambda _: None,
    score_pairs: ScorePairs | None = None,
    scorer_fingerprint: str = "",
) -> tuple[dict[str, Table], dict[str, Any]]:
    """Return the tables with mined negatives in the training rows, and what lock.json keeps of the mining.

    A recipe without `mine:` gets its tables back, and {}. `cache` is the run folder's; the last two arguments are those of
    `mine_table`, by default the teacher of the recipe.
    """
    section = recipe.mine
    if section is None:
        return dict(tables), {}
    if (
        section.cache is not None and confinement.get_folder() is None
    ):  # a stranger's recipe writes to the run folder alone
        cache = recipe.folder / Path(section.cache).expanduser()
    if section.every is not None and not families.load_encoder(recipe.encoder.family)._moves:
        raise ZooError(
            f"data.mine.every: {recipe.encoder.family} encodes with new weights only after the training; remove `every`"
        )
    if score_pairs is None:
        scorer = families.load_encoder(recipe.encoder.family).open_scorer(recipe.encoder, recipe.folder)
        if scorer is not None:
            score_pairs, scorer_fingerprint = scorer.score, scorer.fingerprint
    encoder = open_encoder(recipe, section.model)
    say(f"mining hard negatives for {len(tables['train'].rows)} rows with {encoder.backbone_name or encoder.name}")
    known = [tables["validation"]] if "validation" in tables else []
    table, record = mine_table(
        section,
        tables["train"],
        encoder,
        roles=list_negative_roles(recipe.encoder),
        corpus=corpus,
        known=known,
        seed=recipe.training.seed,
        cache=cache,
        say=say,
        score_pairs=score_pairs,
        scorer_fingerprint=scorer_fingerprint,
    )
    local = None if section.model == BACKBONE else model_references.locate(section.model, recipe.folder)
    record["model"]["is_folder"] = local is not None and not section.model.startswith("package:")
    for line in describe(record):
        say(line)
    return {**tables, "train": table}, record


def open_encoder(recipe: Recipe[Any], reference: str) -> Encoder:
    """Open the model that searches. Raise ZooError if it cannot encode texts, or not before it is trained."""
    from zoo.evaluation.mteb_isolation import preserve_random_state

    with preserve_random_state():  # the training must not depend on whether negatives were just mined or read again
        if reference == BACKBONE:
            encoder: Encoder = families.load_encoder(recipe.encoder.family).build(
                recipe.encoder, seed=recipe.training.seed, folder=recipe.folder
            )
        else:
            folder = model_references.locate(reference, recipe.folder)
            encoder = pretrained.from_pretrained(
                reference if folder is None or reference.startswith("package:") else folder
            )
    if not encoder.is_usable():
        raise ZooError(
            f"data.mine.model: {recipe.encoder.family} encodes nothing before it is trained; name a model that does"
        )
    if "text" not in encoder.modalities:
        raise ZooError(f"data.mine.model: {reference} reads no texts; name a model that does")
    return encoder


def mine_table(
    section: Mine,
    table: Table,
    encoder: Encoder,
    *,
    roles: Sequence[str],
    cache: Path,
    corpus: Table | None = None,
    known: Sequence[Table] = (),
    seed: int = 42,
    say: Say = lambda _: None,
    score_pairs: ScorePairs | None = None,
    scorer_fingerprint: str = "",
) -> tuple[Table, dict[str, Any]]:
    """Return `table` with further columns of negatives, and what lock.json keeps of the mining.

    Args:
        table: rows with anchor and positive. Negatives that it has stay first.
        encoder: the model that searches.
        roles: the columns of negatives that the loss reads, in their order.
        cache: the folder that keeps vectors and search results.
        corpus: texts to search; by default the positives and negatives of `table`.
        known: further tables whose pairs of anchor and positive are known.
        seed: of everything that is drawn.
        score_pairs: a teacher's scores of (anchor, document) pairs, which then decide about probable positives.
        scorer_fingerprint: a hash of all that the teacher's scores depend on.

    Rows for which nothing could be mined are left out. Raise DataError if these are all rows.
    """
    filled = [role for role in roles if role in table.rows.column_names]
    texts = list_texts(table, filled) if corpus is None else list(corpus.rows["text"])
    miner = make_miner(encoder)._replace(score_pairs=score_pairs, scorer_fingerprint=scorer_fingerprint)
    mined = mine_texts(section, table, texts, miner, filled, cache=cache, known=known, seed=seed, say=say)
    new_roles = [role for role in roles if role not in filled][: section.count]
    result = add_columns(table, new_roles, mined.negatives)
    record = _describe_search(section, encoder, corpus, texts) | {
        "columns": new_roles,
        "fingerprint": result.fingerprint,
        **mined.counts,
        "examples": choose_examples(table, mined, section.examples, seed),
    }
    return result, record


def list_texts(table: Table, negative_roles: Sequence[str]) -> list[str]:
    """Return the positives and the negatives of the rows."""
    return [text for role in ("positive", *negative_roles) for text in table.rows[role]]


def mine_texts(
    section: Mine,
    table: Table,
    texts: Sequence[str],
    miner: Miner,
    negative_roles: Sequence[str],
    *,
    cache: Path,
    known: Sequence[Table],
    seed: int,
    say: Say,
) -> Mined:
    """Return negatives from `texts` for every row of `table`, besides those in its columns `negative_roles`."""
    columns = [list(table.rows[role]) for role in negative_roles]
    return mine.mine(
        Rows(list(table.rows["anchor"]), list(table.rows["positive"]), list(zip(*columns, strict=True))),
        texts,
        miner,
        mine.Settings(*section.range, section.margin, section.count, section.sample, seed),
        cache,
        known_pairs=[pair for other in known for pair in _list_pairs(other)],
        say=say,
    )


def _describe_search(section: Mine, encoder: Encoder, corpus: Table | None, texts: Sequence[str]) -> dict[str, Any]:
    name, revision = encoder.backbone_name or encoder.name, encoder.backbone_revision or encoder.revision
    return {
        "model": {"name": name, "revision": revision},
        "corpus": OWN_TEXTS if corpus is None else corpus.origin.name,
        "texts": len({*texts}),
        "margin": section.margin,
        "count": section.count,
    }


def _list_pairs(table: Table) -> Iterator[tuple[str, str]]:
    return zip(table.rows["anchor"], table.rows["positive"], strict=True)


def add_columns(table: Table, roles: Sequence[str], negatives: Sequence[Sequence[str]]) -> Table:
    """Return the table with a column for each role. Rows without negatives are left out; raise DataError if all are."""
    mask = np.array([bool(texts) for texts in negatives])
    if not mask.any():
        raise DataError(
            "data.mine: no row has a candidate that is neither a known nor a probable positive: give a `corpus` with further "
            "texts, or a larger `margin`"
        )
    remaining = table if mask.all() else filter_table(table, mask)
    chosen = [texts for texts in negatives if texts]
    rows: Any = remaining.rows
    for number, role in enumerate(roles):
        rows = rows.add_column(role, [texts[number] for texts in chosen])
    all_roles = tuple(sorted({*table.roles, *roles}))
    return replace(
        remaining,
        rows=rows,
        fingerprint=compute_fingerprint(rows, all_roles),
        roles=all_roles,
        inputs=(*table.inputs, *(role for role in roles if role not in table.inputs)),
    )


def remove_columns(table: Table, roles: Sequence[str]) -> Table:
    """Return the table without these columns."""
    rows: Any = table.rows.remove_columns(list(roles))
    remaining = tuple(role for role in table.roles if role not in roles)
    return replace(
        table,
        rows=rows,
        fingerprint=compute_fingerprint(rows, remaining),
        roles=remaining,
        inputs=tuple(name for name in table.inputs if name not in roles),
    )


def make_miner(encoder: Encoder) -> Miner:
    """Return the functions of an encoder that mining needs. Codes are compared as float vectors."""
    import torch

    device = "cuda" if torch.cuda.is_available() and encoder._moves else "cpu"
    if device != "cpu":
        encoder.to(device)
    precision = "auto" if device == "cuda" else "fp32"

    def encode_queries(texts: Sequence[str]) -> Any:
        return encoder.as_float_vectors(encoder.encode_query(list(texts), precision=precision))

    def encode_documents(texts: Sequence[str]) -> Any:
        return encoder.as_float_vectors(encoder.encode_document(list(texts), precision=precision))

    return Miner(encode_queries, encode_documents, compute_fingerprint_of_encoder(encoder, device), device=device)


def compute_fingerprint_of_encoder(encoder: Encoder, device: str) -> str:
    """Return a hash of an encoder's weights and settings, and of the device that encodes."""
    import torch

    weights = hashlib.sha256()
    for name, tensor in sorted(encoder.module.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    settings = encoder.spec.model_dump(mode="json")
    return atomic_files.digest([weights.hexdigest(), settings, encoder.view_options, device])


def choose_examples(table: Table, mined: Mined, count: int, seed: int) -> list[dict[str, Any]]:
    """Return `count` random rows with their first mined negative and the scores. Long texts are cut."""
    anchors, positives = table.rows["anchor"], table.rows["positive"]
    candidates = [row for row, scores in enumerate(mined.scores) if scores and scores[0] is not None]
    drawn = np.random.default_rng(seed).permutation(len(candidates))[:count]
    return [
        {
            "anchor": anchors[row][:MAX_SHOWN],
            "positive": positives[row][:MAX_SHOWN],
            "negative": mined.negatives[row][0][:MAX_SHOWN],
            "positive_score": round(mined.positive_scores[row], 4),
            "negative_score": round(mined.scores[row][0] or 0.0, 4),
        }
        for row in sorted(candidates[i] for i in drawn)
    ]


def describe(record: Mapping[str, Any]) -> list[str]:
    """Return what the user is told of a mining."""
    dropped = [
        f"{record[name]} {reason}"
        for name, reason in (
            ("known", "known positives"),
            ("above_margin", "probable positives above the margin"),
            ("near_duplicates", "near-duplicates of a positive"),
        )
    ]
    lines = [f"mined {record['found']} negatives; left out {', '.join(dropped)}"]
    if record["short_rows"]:
        short = f"{record['short_rows']} of {record['rows']} rows have fewer than {record['count']}"
        lines.append(f"{short}; {record['filled']} random texts or repeats fill them up")
    if record["empty_rows"]:
        lines.append(f"{record['empty_rows']} rows without any negative are left out of the training")
    return lines
