"""Trackers that a training reports to: TensorBoard, Trackio, Weights & Biases, MLflow.

The Trainer's own callbacks log losses and validations. Here runs are opened, so that a resumed training goes on in its run, and
the final scores and the pictures of the card are added. Everything lies below `trackers/` in the run folder, unless the usual
environment variables of a tracker name another place. Keys and tokens come from the environment or from a tracker's own login.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.core.training_log import Say
from zoo.training.distributed import is_main_process

FOLDER, RUNS = "trackers", "runs.json"
PROJECT = "zoo"
INSTALL = {
    "tensorboard": 'pip install "embedding-zoo[tensorboard]"',
    "trackio": 'pip install "embedding-zoo[trackio]"',
    "wandb": 'pip install "embedding-zoo[wandb]"',
    "mlflow": 'pip install "embedding-zoo[mlflow]"',
}
NETRC = ("~/.netrc", "~/_netrc")


def check_installed(names: Sequence[str]) -> None:
    """Raise ZooError with the install command for each tracker that is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    lines = [
        f"training.report: {name} is not installed: {INSTALL[name]}, or take it out of the list" for name in missing
    ]
    if lines:
        raise ZooError(*lines)


@contextmanager
def follow(names: Sequence[str], run_name: str, folder: Path, say: Say | None = None) -> Iterator[None]:
    """Inside the block, the trackers write below the run folder `folder`, and the runs of this training are open.

    Raises ZooError for a tracker that is not installed.
    """
    check_installed(names)
    with _set_environment(names, folder, say):
        if is_main_process():
            for name, begin in (("wandb", _begin_wandb), ("mlflow", _begin_mlflow)):
                if name in names:
                    begin(run_name, folder)
        yield


def report_results(
    names: Sequence[str], run_name: str, folder: Path, report: Mapping[str, Any], pictures: Sequence[Path]
) -> None:
    """Add the final scores of report.json and the pictures of the card, and close the runs."""
    scores = list_scores(report)
    with follow(names, run_name, folder):
        for name in names:
            _FINISHERS[name](run_name, folder, scores, pictures)


def list_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of report.json by task, view and metric."""
    scores = {}
    for result in report.get("results", ()):
        view = "-".join(f"{key}{value}" for key, value in result["view"].items())
        parts = [part for part in ("final", result["task"], view, result["metric"]) if part]
        scores["/".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)] = float(result["value"])
    return scores


# -- places and runs ---------------------------------------------------------------------------------------------------


@contextmanager
def _set_environment(names: Sequence[str], folder: Path, say: Say | None) -> Iterator[None]:
    """Set the variables that name a tracker's place, unless the user set them; the variables are restored afterwards."""
    place = (folder / FOLDER).absolute()
    defaults = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(place / "tensorboard")},
        "trackio": {"TRACKIO_DIR": str(place / "trackio"), "TRACKIO_PROJECT": PROJECT},
        "wandb": {"WANDB_DIR": str(place), "WANDB_PROJECT": PROJECT, **_choose_wandb_mode(names, place, say)},
        "mlflow": {
            "MLFLOW_TRACKING_URI": (place / "mlflow").as_uri(),
            "MLFLOW_EXPERIMENT_NAME": PROJECT,
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.17 refuses a folder otherwise
        },
    }
    wanted = {key: value for name in names for key, value in defaults[name].items() if key not in os.environ}
    if names and is_main_process():
        place.mkdir(parents=True, exist_ok=True)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key in wanted:
            os.environ.pop(key, None)


def _choose_wandb_mode(names: Sequence[str], place: Path, say: Say | None) -> dict[str, str]:
    """Keep runs of Weights & Biases on this machine if nobody is logged in, because it would ask for a key otherwise."""
    has_login = "WANDB_API_KEY" in os.environ or any(Path(path).expanduser().exists() for path in NETRC)
    if "wandb" not in names or has_login or "WANDB_MODE" in os.environ:
        return {}
    if say is not None:
        say(f"wandb: nobody is logged in, so the run stays in {place}; `wandb sync` sends it later")
    return {"WANDB_MODE": "offline"}


def _read_runs(folder: Path) -> dict[str, str]:
    path = folder / FOLDER / RUNS
    runs: dict[str, str] = atomic_files.read_json(path) if path.exists() else {}
    return runs


def _keep_run(folder: Path, name: str, run: str) -> None:
    atomic_files.write_json(folder / FOLDER / RUNS, _read_runs(folder) | {name: run})


def _begin_wandb(run_name: str, folder: Path) -> None:
    import wandb

    if wandb.run is None:
        run = _read_runs(folder).get("wandb") or secrets.token_hex(8)
        _keep_run(folder, "wandb", run)
        wandb.init(
            project=os.environ["WANDB_PROJECT"], name=run_name, id=run, resume="allow", dir=os.environ["WANDB_DIR"]
        )


def _begin_mlflow(run_name: str, folder: Path) -> None:
    import mlflow

    if mlflow.active_run() is None:
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
        run = mlflow.start_run(run_id=_read_runs(folder).get("mlflow"), run_name=run_name)
        _keep_run(folder, "mlflow", run.info.run_id)


# -- the end of a run --------------------------------------------------------------------------------------------------


def _finish_tensorboard(run_name: str, folder: Path, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
    from matplotlib import image

    tensorboard = importlib.import_module("torch.utils.tensorboard")
    writer = tensorboard.SummaryWriter(os.environ["TENSORBOARD_LOGGING_DIR"])
    for key, value in scores.items():
        writer.add_scalar(key, value)
    for picture in pictures:
        writer.add_image(f"card/{picture.stem}", image.imread(picture)[..., :3], dataformats="HWC")
    writer.close()


def _finish_trackio(run_name: str, folder: Path, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
    trackio = importlib.import_module("trackio")
    project = os.environ["TRACKIO_PROJECT"]
    configs = [run.config for run in trackio.Api().runs(project) if run.name == run_name]
    # A run that is opened again gets a new configuration, so the one of the training is given once more.
    config = {key: value for key, value in (configs[-1] or {}).items() if key[:1] != "_"} if configs else None
    trackio.init(project=project, name=run_name, resume="allow", config=config)
    images = {f"card/{picture.stem}": trackio.Image(str(picture)) for picture in pictures}
    trackio.log(dict(scores))
    if images:
        trackio.log(images)
    trackio.finish()


def _finish_wandb(run_name: str, folder: Path, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
    wandb = importlib.import_module("wandb")
    wandb.run.summary.update(dict(scores))
    if pictures:
        wandb.log({f"card/{picture.stem}": wandb.Image(str(picture)) for picture in pictures})
    wandb.finish()


def _finish_mlflow(run_name: str, folder: Path, scores: Mapping[str, float], pictures: Sequence[Path]) -> None:
    mlflow = importlib.import_module("mlflow")
    mlflow.log_metrics(dict(scores))
    for picture in pictures:
        mlflow.log_artifact(str(picture), "card")
    mlflow.end_run()


_FINISHERS = {
    "tensorboard": _finish_tensorboard,
    "trackio": _finish_trackio,
    "wandb": _finish_wandb,
    "mlflow": _finish_mlflow,
}
