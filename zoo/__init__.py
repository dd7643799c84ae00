"""zoo: one YAML recipe in, a trained, measured and documented embedding model out.

    recipe  = zoo.load_recipe("recipes/quickstart.yaml", "training.epochs=2")
    encoder = zoo.train(recipe, out="runs/quickstart")
    report  = zoo.evaluate(encoder, recipe.evaluation)
    encoder = zoo.from_pretrained("me/my-model", revision="…")
    encoder.push_to_hub("me/my-model", private=True)
    index   = zoo.Index.build(encoder, "rows.csv", "index")

Importing it imports nothing heavy; torch comes with the first encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import AcceptanceError, ArtefactError, DataError, HubError, RecipeError, ZooError

if TYPE_CHECKING:
    from zoo.bridge.bridge import Bridge
    from zoo.bridge.relative import RelativeEncoder
    from zoo.encoder import Encoder
    from zoo.index.index import Index
    from zoo.recipe.recipe import Recipe

__version__ = "0.2.0"
__all__ = [
    "AcceptanceError",
    "ArtefactError",
    "Bridge",
    "DataError",
    "HubError",
    "Index",
    "RecipeError",
    "RelativeEncoder",
    "ZooError",
    "evaluate",
    "from_pretrained",
    "load_recipe",
    "train",
]


def load_recipe(path: str | Path, *overrides: str, folder: str | Path | None = None) -> Recipe[Any]:
    """Read and check a recipe; `overrides` are `key.path=value`. Raises RecipeError that lists every mistake.

    Relative paths in the recipe start at `folder`, by default the folder of the file.
    """
    from zoo.recipe import recipe

    if not isinstance(path, str | Path):
        raise RecipeError(f"a recipe is named by its path, not by {type(path).__name__}")
    for change in overrides:
        if not isinstance(change, str):
            raise RecipeError(
                f'override {change!r}: write each override as a text, for example "training.epochs=3"'[:300]
            )
    return recipe.load(path, *overrides, folder=None if folder is None else Path(folder))


def train(recipe: Recipe[Any] | str | Path, out: str | Path | None = None, *, show_progress: bool = False) -> Encoder:
    """Build the model of a recipe in the run folder `out` (runs/NAME by default), or finish what was begun there.

    Raises ZooError for a mistake that the user can mend, AcceptanceError when a score is below its `at_least`.
    """
    from zoo.build import builder

    loaded = load_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    return builder.run(loaded, Path(out or Path("runs") / loaded.name), show_progress=show_progress)


def evaluate(
    encoder: Encoder, tasks: Sequence[Any], *, folder: str | Path = ".", show_progress: bool = False
) -> dict[str, Any]:
    """Score `encoder` on tasks and return the report.

    A task is an official name of mteb, an entry of a recipe's `evaluation:` (also as a mapping), or a recipe whose tasks are
    meant. An encoder that is a view is reported as that view. Raises ZooError.
    """
    from zoo import evaluation
    from zoo.encoder import Encoder as AnyEncoder
    from zoo.recipe import task_arguments

    if not isinstance(encoder, AnyEncoder):
        raise ZooError(f"evaluate takes an encoder, not {type(encoder).__name__}: open one with zoo.from_pretrained")
    prepared = evaluation.prepare([])
    for group, start in task_arguments.read_tasks(tasks, Path(folder)):
        prepared = prepared.join(evaluation.prepare(group, start))
    return evaluation.evaluate(encoder, prepared, show_progress=show_progress)


def from_pretrained(
    reference: str | Path, revision: str | None = None, *, engine: str = "torch", max_loss: float = 0.001
) -> Encoder:
    """Open a model: a folder that zoo wrote, a Hub id of one, or a plain sentence-transformers backbone (Hub id, folder or
    `package:NAME`), which opens untrained.

    Args:
        reference, revision: the model, and its commit, tag or branch on the Hub.
        engine: what encodes. `onnx` and `openvino` make a graph of a text model once. `auto` takes the engine and the precision
            that a measurement on this machine finds fastest.
        max_loss: the largest loss in mean cosine of the choice of `auto`.

    Opening is strict. Raises ArtefactError for missing, extra or mis-shaped tensors, a wrong sha256, and an unknown format or
    family. Raises ZooError for an engine that is not installed or that the family does not have. Pickles and remote code are
    never touched.
    """
    from zoo import pretrained

    if engine == "torch":
        return pretrained.from_pretrained(reference, revision)
    from zoo.deploy import engines

    return engines.open_encoder(reference, revision, engine=engine, max_loss=max_loss)


def __getattr__(name: str) -> Any:
    """Import classes when they are first used, because they need numpy."""
    if name == "Index":
        from zoo.index.index import Index

        return Index
    if name == "Bridge":
        from zoo.bridge.bridge import Bridge

        return Bridge
    if name == "RelativeEncoder":
        from zoo.bridge.relative import RelativeEncoder

        return RelativeEncoder
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
