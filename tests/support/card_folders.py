"""Model folders without weights, as cards read them: a record in which every part can be set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import card_claims
import yaml
from card_claims import RESULT

import cards
from zoo import families

DATA = {"fingerprint": "d" * 64, "rows": 15_000, "skipped": 0, "origin": {"name": "rows"}}


def write_folder(folder: Path, family: str, **parts: Any) -> Path:
    """Write the model folder of a family.

    Parts: spec, facts, zoo, training, card, lock and report are added to defaults; data, mixture, validation, results and
    metrics replace them; plots names pictures; standalone says whether sentence-transformers opens the folder.
    """
    spec_class, claims = families.load_spec(family), card_claims.load(family)
    spec = spec_class.model_validate({"family": family, **claims.SPEC, **parts.get("spec", {})})
    facts = {**claims.FACTS, **parts.get("facts", {})}
    block = {"format": 1, "family": family, "name": "n", "spec": spec.model_dump(mode="json"), "facts": facts}
    training = {"batch_size": 64, "learning_rate": 0.1, "weight_decay": 0.1, "precision": "auto", "keep_best": True}
    recipe = {
        "name": "n",
        "encoder": spec.model_dump(mode="json"),
        "data": parts.get("data", {"source": "hub", "name": "me/rows"}),
        "validation": parts.get("validation"),
        "training": {**training, **parts.get("training", {})},
        "card": parts.get("card", {}),
        "mixture": parts.get("mixture"),
    }
    backbone = {"name": "b", "revision": "e" * 40} if isinstance(claims.SPEC.get("backbone"), str) else None
    lock = {"data": {"train": DATA}, "backbone": backbone, "packages": {"torch": "2"}, **parts.get("lock", {})}
    report = {"results": parts.get("results", [RESULT]), **parts.get("report", {})}
    (folder / "plots").mkdir(parents=True)
    for name in parts.get("plots", ()):
        (folder / "plots" / f"{name}.png").touch()
    if parts.get("standalone", True):
        (folder / "modules.json").write_text("[]")
    (folder / "config.json").write_text(json.dumps({"zoo": block | parts.get("zoo", {})}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe) if parts.get("recipe", True) else "")
    (folder / "lock.json").write_text(json.dumps(lock))
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, parts.get("metrics", ()))))
    return folder


def render_card(folder: Path, family: str, **parts: Any) -> str:
    """Return the card of such a folder, with single spaces."""
    return " ".join(cards.render(write_folder(folder, family, **parts)).split())
