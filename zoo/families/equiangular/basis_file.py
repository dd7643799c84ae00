"""How class vectors are stored: in the cache of a run, and in classes.safetensors and config.json of a model folder.

Everything in a model folder is checked before it is used, because the folder may come from a stranger.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zoo.artefact import headers, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.progress import show_progress_bar
from zoo.families.equiangular import basis_search, basis_vectors
from zoo.families.equiangular.spec import Spec, compute_welch_bound

CHOSEN_SETTINGS = ("training.epochs", "encoder.start_share")
STEM = "classes"
METHODS = ("orthonormal", "simplex", "paley", "kerdock", "orbits")
MAX_SIZE = 1_000_000  # largest number of classes, vectors or components in a model folder
GRAM_CLASSES = 48  # classes in the card's picture of the Gram matrix

# -- the cache of a run ------------------------------------------------------------------------------------------------


def load_or_make_basis(
    cache: Path, spec: Spec, class_count: int, seed: int, *, show_progress: bool = False
) -> basis_vectors.Basis:
    """Return the basis that `spec` describes. It is made once, and later read from the folder `cache`.

    Raises ZooError for a `capacity` below the number of classes, and for an `alpha` below the Welch bound.
    """
    dim, alpha, count = spec.dim, spec.alpha, spec.capacity or max(class_count, spec.dim)
    if count < class_count:
        raise ZooError(f"capacity: {count} vectors are too few for {class_count} classes; raise `capacity`")
    key = atomic_files.digest([basis_vectors.VERSION, count, dim, seed, alpha])[:16]
    path = cache / f"basis-{key}.safetensors"
    if path.exists():
        ((method, generators),) = tensors.read(cache, path.stem).items()
        return basis_vectors.Basis(generators, count, dim, method, seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with show_progress_bar(100, show_progress) as advance:
        percent = 0

        def report(done: int, total: int, best: float) -> None:
            nonlocal percent
            progress = 100 * done // total - percent
            percent += progress
            advance(progress)

        basis = basis_vectors.make(count, dim, seed=seed, alpha=alpha, device=device, progress=report)
    basis = basis.to(torch.device("cpu"))
    with atomic_files.replace_file(path) as partial:
        save_file({basis.method: basis.generators.contiguous()}, partial)
    return basis


# -- writing a model folder --------------------------------------------------------------------------------------------


def write_tensors(
    folder: Path, basis: basis_vectors.Basis | None, moments: torch.Tensor | None, head: torch.nn.Module | None
) -> None:
    """Write those of the three that are not None to classes.safetensors."""
    contents = {} if basis is None else {"generators": basis.generators}
    contents |= {} if moments is None else {"moments": moments}
    contents |= {} if head is None else head.state_dict()
    contents = {name: tensor.contiguous().cpu() for name, tensor in contents.items()}
    save_file(contents, folder / f"{STEM}.safetensors", metadata={"format": "pt"})


def describe_basis(basis: basis_vectors.Basis) -> dict[str, Any]:
    """Return the entry `basis` of config.json: how the basis was made, and its sha256."""
    return {name: getattr(basis, name) for name in ("method", "version", "seed", "count", "sha256")}


def describe_geometry(basis: basis_vectors.Basis, vector_ids: list[int]) -> dict[str, Any]:
    """Return facts for the card: method, coherence, Welch bound, and |cos| between the first GRAM_CLASSES classes."""
    rows = basis.get_rows(0, max(vector_ids) + 1)[vector_ids[:GRAM_CLASSES]].double()
    return {
        "capacity": basis.count,
        "method": basis.method,
        "coherence": basis.compute_coherence(),
        "welch": compute_welch_bound(basis.count, basis.dim),
        "gram": (rows @ rows.T).abs().round(decimals=3).tolist(),
    }


# -- reading a model folder --------------------------------------------------------------------------------------------


def validate_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of the `zoo` block, after checking type and size of each. Raises ArtefactError."""

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ArtefactError(f"{folder / 'config.json'}: {message}")

    dim, seed, scale, threshold = (config.get(name) for name in ("dim", "seed", "scale", "threshold"))
    require(_is_integer(dim, 1, MAX_SIZE), "`dim` must be a positive whole number")
    require(_is_integer(seed, 0, 2**32 - 1), "`seed` must be a whole number of 32 bits")
    require(type(scale) in (int, float) and 0 < scale < 1e9, "`scale` must be a number above 0")  # type: ignore[operator]
    require(threshold is None or _is_finite(threshold), "`threshold` must be a finite number or null")

    classes, places, basis = config.get("classes"), config.get("places"), config.get("basis")
    require(
        isinstance(classes, list) and 2 <= len(classes) <= MAX_SIZE, "`classes` must be a list of two or more names"
    )
    assert isinstance(classes, list)
    require({type(name) for name in classes} in ({str}, {int}), "`classes` must be all strings or all whole numbers")
    require(len(set(classes)) == len(classes), "`classes` must not repeat a name")
    require(isinstance(places, list) and len(places) == len(classes), "`places` must have one number for each class")
    assert isinstance(places, list)
    count = basis.get("count") if isinstance(basis, dict) else len(classes)
    require(_is_integer(count, 1, MAX_SIZE), "`basis.count` must be a positive whole number")
    assert isinstance(count, int)
    require(all(_is_integer(place, 0, count - 1) for place in places), "`places` must be rows of the basis")
    require(len(set(places)) == len(places), "`places` must not give one vector to two classes")
    if basis is not None:
        require(isinstance(basis, dict) and basis.get("method") in METHODS, "`basis.method` must be a known method")
        require(_is_integer(basis.get("seed"), 0, 2**32 - 1), "`basis.seed` must be a whole number of 32 bits")
        require(type(basis.get("version")) is int, "`basis.version` must be a whole number")
        require(isinstance(basis.get("sha256"), str), "`basis.sha256` must be a string")

    tower, facts = config.get("tower"), config.get("facts")
    require(isinstance(tower, dict), "`tower` must be an object")
    return {
        "dim": dim,
        "seed": seed,
        "classes": classes,
        "places": places,
        "basis": basis,
        "scale": float(scale),  # type: ignore[arg-type]
        "threshold": None if threshold is None else float(threshold),
        "tower": tower,
        "facts": _select_facts(facts if isinstance(facts, dict) else {}),
    }


def _select_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that only training knows: the scores of the softmax baseline, and the settings that it chose."""
    selected: dict[str, Any] = {"twin": facts["twin"]} if isinstance(facts.get("twin"), dict) else {}
    settings = facts.get("settings")
    if isinstance(settings, dict):
        numbers = {name: settings.get(name) for name in CHOSEN_SETTINGS}
        numbers = {name: value for name, value in numbers.items() if isinstance(value, float) and math.isfinite(value)}
        selected |= {"settings": numbers} if numbers else {}
    return selected


def _is_integer(value: Any, smallest: int, largest: int) -> bool:
    return type(value) is int and smallest <= value <= largest


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_tensors(
    folder: Path, spec: Spec, config: Mapping[str, Any], width: int
) -> tuple[basis_vectors.Basis | None, torch.Tensor | None, torch.nn.Linear | None]:
    """Return the basis, the second moments, and the softmax head. Those that the model does not have are None.

    `config` is what `validate_config` returned; `width` is the backbone's. Raises ArtefactError for missing, extra or
    mis-shaped tensors, and for a basis whose sha256 is not the one in `config`.
    """
    path = folder / f"{STEM}.safetensors"
    shapes, basis_config, dim = headers.read_header(path), config["basis"], config["dim"]
    if spec.head == "softmax":
        expected = {"weight": (len(config["classes"]), dim), "bias": (len(config["classes"]),)}
    else:
        expected = {"moments": (width + 1, width + 1)} if "moments" in shapes else {}
        expected |= {"generators": shapes.get("generators", ())} if spec.basis == "stored" else {}
    if shapes != expected:
        raise ArtefactError(f"{path}: holds {_format_shapes(shapes)}, expected {_format_shapes(expected)}")
    if (basis_config is None) != (spec.head == "softmax"):
        raise ArtefactError(f"{folder / 'config.json'}: `basis` must be null for head: softmax, and for no other head")
    contents = tensors.read(folder, STEM)
    if not all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in contents.values()):
        raise ArtefactError(f"{path}: all tensors must be float32 and finite")
    if basis_config is None:
        with torch.device("meta"):
            head = torch.nn.Linear(dim, len(config["classes"]))
        head.load_state_dict(contents, assign=True)
        return None, None, head
    if spec.basis == "stored":
        basis = _open_basis(path, contents["generators"], basis_config, dim)
    else:
        basis = _remake_basis(folder, basis_config, dim, spec.alpha)
    if basis.sha256 != basis_config["sha256"]:
        reason = (
            "the file was changed: download the model again"
            if spec.basis == "stored"
            else "vectors made from the seed differ on this machine; ask the author for a model with basis: stored"
        )
        digests = f"sha256 {basis.sha256[:12]}…, not {basis_config['sha256'][:12]}…"
        raise ArtefactError(f"{folder}: the class vectors have {digests}: {reason}")
    return basis, contents.get("moments"), None


def _open_basis(path: Path, generators: torch.Tensor, config: Mapping[str, Any], dim: int) -> basis_vectors.Basis:
    """Return the basis with stored generators, after checking their shape."""
    count, shape = config["count"], generators.shape
    if len(shape) != 3 or not 0 < shape[1] * shape[2] <= dim or shape[0] != math.ceil(count / shape[2]):
        raise ArtefactError(f"{path}: generators {tuple(shape)} do not give {count} vectors in {dim} dimensions")
    return basis_vectors.Basis(generators, count, dim, config["method"], config["seed"], config["version"])


def _remake_basis(folder: Path, config: Mapping[str, Any], dim: int, alpha: float | None) -> basis_vectors.Basis:
    """Make the basis again from its seed, unless its version is unknown or it takes too long."""
    count, version = config["count"], config["version"]
    # Versions concern the search alone: a closed form is the same in all of them.
    known_versions = (*basis_search.EARLIER_LINE_STEPS_FACTORS, basis_vectors.VERSION)
    if version > basis_vectors.VERSION or (config["method"] == "orbits" and version not in known_versions):
        raise ArtefactError(
            f"{folder}: its class vectors are of version {version}, and this version of embedding-zoo makes version "
            f"{basis_vectors.VERSION}; update embedding-zoo, or ask the author for a model with basis: stored"
        )
    if basis_vectors.estimate_cost(count, dim, version) > 2 * basis_search.MAX_WORK:
        raise ArtefactError(
            f"{folder}: {count} vectors in {dim} dimensions take too long to make again; ask the author for a model with "
            "basis: stored"
        )
    basis = basis_vectors.make(count, dim, seed=config["seed"], alpha=alpha, version=version)
    return replace(basis, version=version)


def _format_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name[:40]} {shape}" for name, shape in sorted(shapes.items())[:6]) or "nothing"
