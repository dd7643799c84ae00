"""The verbs `zoo fit` and `zoo apply`: steps after training for vectors and models that no recipe made."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from zoo.core import output_paths
from zoo.core.errors import ZooError
from zoo.core.output import get_stdout, say, write

Add = Callable[..., argparse.ArgumentParser]


def add_verbs(add: Add) -> None:
    """Add both verbs and their options to the parser of all verbs."""
    verb = add("fit", run_fit, "fit a step after training: zoo fit int8 vectors.npy --out step")
    verb.add_argument("step", help="the name of a step, as `zoo list` prints it")
    verb.add_argument("source", metavar="VECTORS|MODEL", help="an .npy of document vectors, or a model with --data")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="fields of the step, for example clip=0.001")
    verb.add_argument("--out", required=True, help="the new folder of the step")
    verb.add_argument("--data", help="texts that the model encodes: a file with a column `document` or `text`")
    verb.add_argument("--none", metavar="FILE", help="queries that nothing answers: an .npy, or texts for a model")
    verb.add_argument("--queries", metavar="NPY", help="vectors of queries, for a step that learns from them")
    verb.add_argument("--answers", metavar="NPY", help="whole numbers (p, 2): a query, and a document that answers it")
    verb.add_argument(
        "--unit", action="store_true", help="give vectors of files unit norm first, so that scores are cosines"
    )
    verb.add_argument("--revision", help="commit, tag or branch of the model on the Hub")
    verb.add_argument("--seed", type=int, default=42, help="seed of the fit (default: 42)")
    apply = add("apply", run_apply, "vectors to packed codes: zoo apply STEP vectors.npy --out codes.npy")
    apply.add_argument("step", metavar="STEP", help="the folder of a step that `zoo fit` wrote")
    apply.add_argument("vectors", metavar="VECTORS", help="an .npy of vectors, or of codes with --decode")
    apply.add_argument("--out", help="write the .npy here (default: stdout)")
    apply.add_argument("--decode", action="store_true", help="codes to the vectors that they stand for")


def run_fit(arguments: argparse.Namespace) -> None:
    """`zoo fit`: fit a step and write its folder."""
    target = Path(arguments.out)
    if os.path.lexists(target):
        raise ZooError(f"{target} is there already; nothing was overwritten")
    output_paths.check_folder(target)
    is_file = arguments.source.endswith(".npy")
    _check_options(arguments, is_file)
    from zoo.recipe import step_arguments

    files = {"none_file": arguments.none} if not is_file else {}
    spec = step_arguments.make_step(arguments.step, arguments.overrides, data_file=arguments.data, **files)
    from zoo.build import fitting  # imports torch, so only after the step is known to be good

    if is_file:
        vectors = fitting.VectorFiles(arguments.source, arguments.queries, arguments.answers, arguments.none)
        fitting.fit_vectors(spec, vectors, target, unit=arguments.unit, seed=arguments.seed, say=say)
    else:
        fitting.fit_model(spec, arguments.source, target, revision=arguments.revision, seed=arguments.seed, say=say)
    write(f"{target}: open it with zoo.after.open_step, or apply it: zoo apply {target} VECTORS --out codes.npy")


def _check_options(arguments: argparse.Namespace, is_file: bool) -> None:
    """Raise ZooError for an option that has no effect on this kind of source."""
    wrong = ("data", "revision") if is_file else ("queries", "answers", "unit")
    name = next((name for name in wrong if getattr(arguments, name)), None)
    if name is not None:
        kind = "a model that encodes texts" if is_file else "vectors in .npy files"
        raise ZooError(f"--{name}: is for {kind}, and {arguments.source} is not; leave it out")


def run_apply(arguments: argparse.Namespace) -> None:
    """`zoo apply`: write the codes of vectors, or the vectors of codes, in constant memory."""
    if arguments.out:
        output_paths.check_file(Path(arguments.out))
    from zoo.build import fitting
    from zoo.core.npy import write_npy

    blocks = fitting.apply_step(Path(arguments.step), arguments.vectors, decode=arguments.decode)
    write_npy(blocks, arguments.out or get_stdout().buffer)
