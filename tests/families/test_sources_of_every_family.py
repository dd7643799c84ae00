"""Every family that draws batches trains on several sources: batches of one source, and a loss for each."""

from __future__ import annotations

import json

import pytest
from contract import load_contract

from zoo import families
from zoo.data import Origin
from zoo.data.data_source import DataSource
from zoo.data.joined import join_tables
from zoo.data.table import Table

MIXING = [name for name in families.names() if families.load_spec(name).mixes_sources]


@pytest.mark.parametrize("family", MIXING)
def test_a_family_trains_on_two_sources(family, tmp_path):
    contract = load_contract(family, tmp_path)
    rows, half = contract.rows, len(contract.rows) // 2
    roles = tuple(sorted(rows.column_names))
    parts = {"first": rows.select(range(half)), "second": rows.select(range(half, len(rows)))}
    table = join_tables({name: Table(part, name, Origin(name), roles=roles) for name, part in parts.items()})
    training = contract.training.model_copy(
        update={"max_steps": 6, "epochs": None, "batch_size": min(8, half // 2), "gradient_accumulation": 1}
    )
    encoder = families.load_encoder(family).build(contract.spec, seed=1, folder=contract.folder)
    encoder.sources = {name: DataSource(name, weight=1.0) for name in parts}
    encoder.prepare(table.rows, tmp_path / "cache")
    sources_of_batches = []
    collate = encoder.collate
    encoder.collate = lambda batch: sources_of_batches.append({row["source"] for row in batch}) or collate(batch)
    encoder.fit(table.rows, training, tmp_path / "run")
    assert all(len(sources) == 1 for sources in sources_of_batches)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {name for line in lines for name in line.get("loss_by_source", ())} == set(parts)
