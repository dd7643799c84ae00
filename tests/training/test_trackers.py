"""Trackers follow a training through the Trainer's own callbacks, and get the final scores and the card's pictures."""

from __future__ import annotations

import importlib
import json
import os
import sys
import textwrap

import pytest
from tiny_matryoshka import build, rows

from zoo.core.errors import ZooError
from zoo.recipe import recipe
from zoo.schema import Training
from zoo.training import trackers, trainer

SETTINGS = Training(max_steps=4, batch_size=16, learning_rate=1e-3, checkpoint_every=2, precision="fp32")
REPORT = {"results": [{"task": "my task", "view": {"dim": 8}, "metric": "ndcg_at_10", "value": 0.25}]}
FAKES = {
    "wandb": """
        from fake_calls import note
        run = None
        class Run:
            def __init__(self, id):
                self.id, self.summary, self.name, self.url = id, Summary(), "", ""
            def _label(self, **options): pass
        class Summary(dict):
            def update(self, values): note("summary", **values)
        class Config(dict):
            def update(self, values, **options): note("config", keys=sorted(values))
        config = Config()
        class Image:
            def __init__(self, path): self.path = path
            def __repr__(self): return self.path.rpartition("/")[2]
        def init(**options):
            global run
            run = Run(options["id"])
            import os
            note("init", mode=os.environ.get("WANDB_MODE"), **options)
        def log(values): note("log", **values)
        def finish():
            global run
            run = None
            note("finish")
        """,
    "wandb.sdk": "",
    "wandb.sdk.lib": "",
    "wandb.sdk.lib.config_util": "class ConfigError(Exception): pass",
    "trackio": """
        from fake_calls import note
        __version__ = "0.30.0"
        class Space:
            def get(self): return None
        class context_vars:
            current_space_id = Space()
            current_project = Space()
        class Config(dict):
            def update(self, values, **options): note("config", keys=sorted(values))
        config = Config()
        class Image:
            def __init__(self, path): self.path = path
            def __repr__(self): return self.path.rpartition("/")[2]
        def init(**options):
            import os
            note("init", place=os.environ["TRACKIO_DIR"], **options)
        def log(values): note("log", **values)
        def finish(): note("finish")
        class Api:
            def runs(self, project):
                from types import SimpleNamespace
                return [SimpleNamespace(name="tiny", config={"_Created": "now", "max_steps": 4})]
        """,
    "mlflow": """
        from fake_calls import note
        __version__ = "3.1.0"
        from types import SimpleNamespace
        from . import utils
        _run, _uri = None, None
        def is_tracking_uri_set(): return _uri is not None
        def get_tracking_uri(): return _uri
        def set_tracking_uri(uri):
            global _uri
            _uri = uri
            note("uri", uri=uri)
        def set_experiment(name): note("experiment", name=name)
        def active_run(): return _run
        def start_run(run_id=None, run_name=None, nested=False):
            global _run
            note("start", run_id=run_id, run_name=run_name)
            _run = SimpleNamespace(info=SimpleNamespace(run_id=run_id or "given"))
            return _run
        def end_run():
            global _run
            _run = None
            note("finish")
        def log_params(values, **options): note("params", keys=sorted(values))
        def log_metrics(metrics, step=None, **options): note("log", **metrics)
        def log_artifact(path, folder): note("artifact", name=path.rpartition("/")[2], folder=folder)
        """,
    "mlflow.utils": "from . import validation",
    "mlflow.utils.validation": "MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH = 250, 100",
}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Packages that note their calls, in the place of the trackers; the calls so far."""
    place, log = tmp_path / "packages", tmp_path / "calls.jsonl"
    for name, source in {**FAKES, "fake_calls": _write_note(log)}.items():
        folder = place.joinpath(*name.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(place)
    for key in [key for key in os.environ if key.startswith(("WANDB_", "MLFLOW_", "TRACKIO_", "TENSORBOARD_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setattr(trackers, "NETRC", ())
    importlib.invalidate_caches()
    yield lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for name in [name for name in sys.modules if name.partition(".")[0] in (*trackers.INSTALL, "fake_calls")]:
        if name.partition(".")[0] != "tensorboard":
            del sys.modules[name]


def _write_note(log):
    return f"""
        import json
        def note(call, **values):
            with open({str(log)!r}, "a") as file:
                file.write(json.dumps([call, values], default=repr) + "\\n")
        """


class Watch:
    greater_is_better = True

    def score(self, encoder):
        return {"dev": 0.5}


def train(tmp_path, name, **settings):
    encoder = build(tmp_path)
    encoder.name = "tiny"
    settings = SETTINGS.model_copy(update={"report": (name,), **settings})
    trainer.fit(encoder, rows(), settings, tmp_path / "run", watch=Watch())


def report(tmp_path, name):
    import matplotlib.image
    import numpy as np

    matplotlib.image.imsave(tmp_path / "loss.png", np.zeros((4, 5, 3)))
    trackers.report_results((name,), "tiny", tmp_path / "run", REPORT, [tmp_path / "loss.png"])


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_tracker_gets_losses_validations_final_scores_and_pictures(name, calls, tmp_path):
    train(tmp_path, name)
    report(tmp_path, name)
    logged = {key: value for call, values in calls() if call in ("log", "summary") for key, value in values.items()}
    loss, score = ("loss", "eval_score") if name == "mlflow" else ("train/loss", "eval/score")
    assert logged[loss] > 0
    assert logged[score] == 0.5
    assert logged[f"{score}_of_dev"] == 0.5
    assert logged["final/my-task/dim8/ndcg_at_10"] == 0.25
    pictures = [values for call, values in calls() if "loss.png" in json.dumps(values)]
    assert pictures == [{"name": "loss.png", "folder": "card"} if name == "mlflow" else {"card/loss": "loss.png"}]
    assert calls()[-1][0] == "finish"
    assert not {key for key in os.environ if key.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))}


def test_a_resumed_training_goes_on_in_its_run_of_wandb_and_of_mlflow(calls, tmp_path):
    for name, key, begin in (("wandb", "id", "init"), ("mlflow", "run_id", "start")):
        train(tmp_path, name)
        sys.modules[name].run = sys.modules[name]._run = None  # as in a new process
        report(tmp_path, name)
        ids = [values[key] for call, values in calls() if call == begin]
        known = json.loads((tmp_path / "run" / "trackers" / "runs.json").read_text())[name]
        assert ids[-1] == known
        assert len(ids) == 2


def test_nothing_leaves_the_run_folder_unless_the_user_says_so(calls, tmp_path, monkeypatch):
    place, lines = (tmp_path / "run" / "trackers").absolute(), []
    with trackers.follow(tuple(trackers.INSTALL), "tiny", tmp_path / "run", lines.append):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(place / "tensorboard")
        assert os.environ["TRACKIO_DIR"] == str(place / "trackio")
        assert os.environ["MLFLOW_TRACKING_URI"] == (place / "mlflow").as_uri()
    begun = next(values for call, values in calls() if call == "init")
    assert (begun["mode"], begun["dir"], begun["project"], begun["name"]) == ("offline", str(place), "zoo", "tiny")
    assert lines == [f"wandb: nobody is logged in, so the run stays in {place}; `wandb sync` sends it later"]
    for key, value in (("WANDB_API_KEY", "key"), ("MLFLOW_TRACKING_URI", "http://server"), ("WANDB_PROJECT", "mine")):
        monkeypatch.setenv(key, value)
    with trackers.follow(("mlflow", "wandb"), "tiny", tmp_path / "other", lines.append):
        assert "WANDB_MODE" not in os.environ
        assert (os.environ["MLFLOW_TRACKING_URI"], os.environ["WANDB_PROJECT"]) == ("http://server", "mine")
    assert len(lines) == 1


def test_tensorboard_has_the_curves_the_scores_and_the_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, "tensorboard")
    report(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "trackers" / "tensorboard"))
    events.Reload()
    assert {"train/loss", "eval/score", "eval/score_of_dev", "final/my-task/dim8/ndcg_at_10"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Tags()["images"] == ["card/loss"]
    assert [(event.step, event.value) for event in events.Scalars("eval/score")] == [(2, 0.5), (4, 0.5)]


def test_a_tracker_that_is_not_installed_is_one_line_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, command in (
        ("wandb", 'pip install "embedding-zoo[wandb]"'),
        ("tensorboard", 'pip install "embedding-zoo[tensorboard]"'),
    ):
        with pytest.raises(ZooError) as caught:
            trackers.check_installed([name])
        assert str(caught.value).splitlines()[0] == (
            f"training.report: {name} is not installed: {command}, or take it out of the list"
        )
    trackers.check_installed([])


def test_a_baseline_is_not_reported_and_an_unknown_tracker_is_a_mistake(tmp_path):
    assert Training(report=["wandb"]).for_baseline() == Training()
    (tmp_path / "rows.jsonl").write_text('{"anchor": "a", "positive": "b"}')
    value = {"encoder": {"family": "static", "backbone": "me/it"}, "data": {"source": "file", "path": "rows.jsonl"}}
    text = json.dumps({"name": "a", **value, "training": {"report": ["wandbb"]}})
    with pytest.raises(
        ZooError, match="'wandbb' is not one of tensorboard, trackio, wandb, mlflow; did you mean wandb"
    ):
        recipe.loads(text, folder=tmp_path)
