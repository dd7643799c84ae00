"""What a model folder, and a run's cache, keep of class vectors: generators or the way to make them, classes, calibration.

Everything is checked before it is used: a folder may come from a stranger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.core.progress import show_progress_bar
from zoo.families.equiangular import basis_search, basis_vectors

if TYPE_CHECKING:
    import torch

    from zoo.families.equiangular.spec import Spec
else:
    torch = lazy("torch")

STEM = "classes"
METHODS = ("orthonormal", "simplex", "paley", "kerdock", "orbits")
MOST = 1_000_000
SHOWN = 48  # class vectors in the picture of the Gram matrix


def asked(cache: Path, spec: Spec, classes: int, seed: int, *, show_progress: bool = False) -> basis_vectors.Basis:
    """The basis that `spec` asks for, made once and then read from `cache`. Raises ZooError for a `capacity` below `classes`."""
    from safetensors.torch import save_file

    dim, alpha, count = spec.dim, spec.alpha, spec.capacity or max(classes, spec.dim)
    if count < classes:
        raise ZooError(f"capacity: {count} vectors are too few for {classes} classes")
    key = atomic_files.digest([basis_vectors.VERSION, count, dim, seed, alpha])[:16]
    path = cache / f"basis-{key}.safetensors"
    if path.exists():
        found = tensors.read(cache, path.stem)
        name = next(iter(found))
        return basis_vectors.Basis(found[name], count, dim, name, seed)
    with show_progress_bar(100, show_progress) as advance:
        shown = 0

        def told(done: int, total: int, best: float) -> None:
            nonlocal shown
            step = 100 * done // total - shown
            shown += step
            advance(step)

        made = basis_vectors.make(
            count, dim, seed=seed, alpha=alpha, device="cuda" if torch.cuda.is_available() else "cpu", progress=told
        )
    made = made.to(torch.device("cpu"))
    with atomic_files.replace_file(path) as partial:
        save_file({made.method: made.generators.contiguous()}, partial)
    return made


def geometry(basis: basis_vectors.Basis, places: list[int]) -> dict[str, Any]:
    """Facts of the card: how the vectors were made, their coherence and its bound, |cos| between some of the classes."""
    rows = basis.rows(0, max(places) + 1)[places[:SHOWN]].double()
    return {
        "capacity": basis.count,
        "method": basis.method,
        "coherence": basis.coherence(),
        "welch": basis_vectors.welch(basis.count, basis.dim),
        "gram": (rows @ rows.T).abs().round(decimals=3).tolist(),
    }


def made(basis: basis_vectors.Basis) -> dict[str, Any]:
    """How a basis was made: what `told` expects under `basis`."""
    return {name: getattr(basis, name) for name in ("method", "version", "seed", "count", "sha256")}


def write(
    folder: Path, basis: basis_vectors.Basis | None, moments: torch.Tensor | None, head: torch.nn.Module | None
) -> None:
    """Write what of these there is to classes.safetensors."""
    from safetensors.torch import save_file

    held = {} if basis is None else {"generators": basis.generators}
    held |= {} if moments is None else {"moments": moments}
    held |= {} if head is None else head.state_dict()
    save_file(
        {n: t.contiguous().cpu() for n, t in held.items()}, folder / f"{STEM}.safetensors", metadata={"format": "pt"}
    )


def told(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The `zoo` block's entries, each of the type and size that it must have. Raises ArtefactError."""

    def must(holds: bool, what: str) -> None:
        if not holds:
            raise ArtefactError(f"{folder / 'config.json'}: {what}")

    def whole(value: Any, least: int, most: int) -> bool:
        return type(value) is int and least <= value <= most

    classes, places, made = config.get("classes"), config.get("places"), config.get("basis")
    numbers: list[Any] = [config.get(name) for name in ("dim", "seed", "scale", "threshold")]
    dim, seed, scale, threshold = numbers
    must(whole(dim, 1, MOST) and whole(seed, 0, 2**32 - 1), "dim and seed must be whole numbers")
    must(isinstance(classes, list) and 2 <= len(classes) <= MOST, "classes must be a list of two or more names")
    assert isinstance(classes, list)
    kinds = {type(name) for name in classes}
    must(
        kinds in ({str}, {int}) and len(set(classes)) == len(classes),
        "classes must be different names, or different numbers",
    )
    must(isinstance(places, list) and len(places) == len(classes), "each class must have its place in the basis")
    assert isinstance(places, list)
    most: Any = made.get("count") if isinstance(made, dict) else len(classes)
    must(whole(most, 1, MOST) and all(whole(place, 0, most - 1) for place in places), "places must be those of vectors")
    must(len(set(places)) == len(places), "two classes have one vector")
    must(type(scale) in (int, float) and 0 < scale < 1e9, "scale must be a number above 0")
    must(
        threshold is None or (type(threshold) in (int, float) and math.isfinite(threshold)),
        "threshold must be a number",
    )
    if made is not None:
        must(
            isinstance(made, dict) and made.get("method") in METHODS and whole(made.get("seed"), 0, 2**32 - 1),
            "basis: is none",
        )
        must(
            type(made.get("version")) is int and isinstance(made.get("sha256"), str),
            "basis: has no version or no sha256",
        )
    tower, facts = config.get("tower"), config.get("facts")
    must(isinstance(tower, dict), "tower must be an object")
    twin = facts.get("twin") if isinstance(facts, dict) else None
    return {
        "classes": classes, "places": places, "basis": made, "dim": dim, "seed": seed,
        "facts": {"twin": twin} if isinstance(twin, dict) else {},
        "scale": float(scale), "threshold": None if threshold is None else float(threshold), "tower": tower,
    }  # fmt: skip


def read(
    folder: Path, spec: Spec, told: Mapping[str, Any], width: int
) -> tuple[basis_vectors.Basis | None, torch.Tensor | None, torch.nn.Linear | None]:
    """Basis, moments, and softmax head, where there are some. Raises ArtefactError for tensors that do not fit, and for
    a basis whose sha256 is not the one told."""
    path = folder / f"{STEM}.safetensors"
    shapes, made, dim = preflight.read_header(path), told["basis"], told["dim"]
    if spec.head == "softmax":
        wanted = {"weight": (len(told["classes"]), dim), "bias": (len(told["classes"]),)}
    else:
        wanted = {"moments": (width + 1, width + 1)} if "moments" in shapes else {}
        wanted |= {"generators": shapes.get("generators", ())} if spec.basis == "stored" else {}
    if shapes != wanted or (made is None) != (spec.head == "softmax"):
        raise ArtefactError(f"{path}: holds {_shown(shapes)}, expected {_shown(wanted)}")
    found = tensors.read(folder, STEM)
    if not all(t.dtype == torch.float32 and t.isfinite().all() for t in found.values()):
        raise ArtefactError(f"{path}: must hold finite float32 numbers")
    if made is None:
        with torch.device("meta"):
            head = torch.nn.Linear(dim, len(told["classes"]))
        head.load_state_dict(found, assign=True)
        return None, None, head
    if spec.basis == "stored":
        basis = basis_vectors.Basis(
            found["generators"], made["count"], dim, made["method"], made["seed"], made["version"]
        )
        shape = basis.generators.shape
        if len(shape) != 3 or not 0 < shape[1] * shape[2] <= dim or shape[0] != math.ceil(basis.count / shape[2]):
            raise ArtefactError(f"{path}: generators {tuple(shape)} make no {basis.count} vectors in {dim} dimensions")
    else:
        basis = _again(folder, made, dim, spec.alpha)
    if basis.sha256 != made["sha256"]:
        raise ArtefactError(
            f"{folder}: the class vectors have sha256 {basis.sha256[:12]}…, not {made['sha256'][:12]}…: "
            + (
                "the file is not what it says"
                if spec.basis == "stored"
                else "made from the seed they differ on this machine; ask its author for basis: stored"
            )
        )
    return basis, found.get("moments"), None


def _again(folder: Path, made: Mapping[str, Any], dim: int, alpha: float | None) -> basis_vectors.Basis:
    searched = made["method"] == "orbits"  # what theory writes down is the same in every version
    if made["version"] > basis_vectors.VERSION or (
        searched and made["version"] not in (*basis_search.EARLIER, basis_vectors.VERSION)
    ):
        raise ArtefactError(
            f"{folder}: its basis is of version {made['version']}, and {basis_vectors.VERSION} is made here"
        )
    if basis_vectors.cost(made["count"], dim, made["version"]) > 2 * basis_search.WORK:
        raise ArtefactError(
            f"{folder}: {made['count']} vectors in {dim} dimensions take too long to make again; they must be stored"
        )
    basis = basis_vectors.make(made["count"], dim, seed=made["seed"], alpha=alpha, version=made["version"])
    return replace(basis, version=made["version"])


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name[:40]} {shape}" for name, shape in sorted(shapes.items())[:6]) or "nothing"
