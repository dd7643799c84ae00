"""Shared fixtures. The Hub's address must be known before huggingface_hub is imported, so the server starts here."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="zoo-tests-hf-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_XET_XORB_COMPRESSION_POLICY"] = "none"  # the store of the tests reads what arrives
if _workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # threads that wait for a core spin, and slow all
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))
# Without bytecode on disk, every process that a test starts would compile zoo again.
for _name in ("HF_HUB_OFFLINE", "HF_TOKEN", "ZOO_DATA", "TRANSFORMERS_OFFLINE", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(_name, None)

import hub_server  # noqa: E402

_HUB = hub_server.Hub()
os.environ["HF_ENDPOINT"] = _HUB.endpoint

import pytest  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_precision():
    """`auto` is float32, so that vectors of two ways can be held against each other on every processor."""
    from zoo.core import hardware

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "_cpu_flags", frozenset)
        yield


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The test Hub, emptied, with a token that may write and a cache of its own."""
    from huggingface_hub import constants

    _HUB.clear()
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own back-off as well as ours
    return _HUB


@pytest.fixture
def folder(tmp_path):
    """Files as a model folder has them; what is in them does not matter to the Hub."""
    import numpy as np
    from safetensors.numpy import save_file

    from zoo.artefact import manifest

    base = tmp_path / "run" / "model"
    (base / "1_Pooling").mkdir(parents=True)
    (base / "plots").mkdir()
    (base / "config.json").write_text('{"zoo": {"format": 1}}')
    (base / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (base / "metrics.jsonl").write_text('{"step": 1}\n')
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (base / "plots" / "loss.png").write_bytes(b"\x89PNG" + bytes(range(200)))
    save_file({"weight": np.arange(3000, dtype=np.float32).reshape(30, 100)}, base / "model.safetensors")
    manifest.write(base)
    return base


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model that really encodes."""
    import tiny

    from zoo.artefact import model_folder
    from zoo.families.matryoshka_2d.encoder import Encoder
    from zoo.families.matryoshka_2d.spec import Spec

    base = tmp_path_factory.mktemp("hub")
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(base / "backbone"), dims=(8, 16)))
    encoder.name = "tiny"
    return model_folder.save(encoder, base / "model")


def pytest_collection_finish() -> None:
    """Leave all that was imported out of garbage collections. Every training asks for one, and it would take .4 seconds."""
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: gzip writes the time into them, and two workers must collect the same names."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None
