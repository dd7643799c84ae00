"""Shared fixtures. The Hub's address must be known before huggingface_hub is imported, so the server starts here."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="zoo-tests-hf-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for _name in ("HF_HUB_OFFLINE", "HF_TOKEN", "ZOO_DATA", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(_name, None)

import hub_server  # noqa: E402

_HUB = hub_server.Hub()
os.environ["HF_ENDPOINT"] = _HUB.endpoint

import pytest  # noqa: E402


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The test Hub, emptied, with a token that may write and a cache of its own."""
    from huggingface_hub import constants

    _HUB.clear()
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own back-off as well as ours
    return _HUB
