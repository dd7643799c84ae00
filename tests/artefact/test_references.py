"""No file of a model folder makes a library read or ask for anything outside the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import tinyvlm

from zoo.artefact import manifest, model_folder, references
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import Spec


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"model_type": "bert", "_name_or_path": "/home/me/bert", "hidden_size": 3}),
        ("config.json", {"attn_implementation": "sdpa", "quantization_config": None, "use_pretrained_backbone": False}),
        ("tokenizer_config.json", {"name_or_path": "me/model", "special_tokens_map_file": "/root/.cache/map.json"}),
        ("tokenizer_config.json", {"tokenizer_file": None, "vocab_file": "vocab.txt"}),
        ("sentence_bert_config.json", {"model_args": {"attn_implementation": "eager"}, "backend": "torch"}),
        ("adapter_index.json", ["base_model_name_or_path"]),
    ],
)
def test_what_published_models_hold_passes(tmp_path, name, content):
    references.check(tmp_path / name, content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", {"vision_config": {"auto_map": {"AutoModel": "evil"}}}, "code of its own"),
        ("config.json", [{"transformers_weights": "../w.safetensors"}], r"names '\.\./w"),
        ("config.json", {"_attn_implementation": "evil/kernel:attention"}, "code of another repository"),
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_name_or_path": "evil/a"}}, "not supported"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "evil/t"}, "not in the folder"),
        ("sentence_bert_config.json", {"model_kwargs": {"subfolder": "../b"}}, "holds 'subfolder'"),
        ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}, "names '/etc/passwd'"),
        ("adapter_config.json", {}, "makes the libraries load another model"),
    ],
)
def test_what_names_something_outside_is_refused_with_its_place(tmp_path, name, content, message):
    with pytest.raises(ArtefactError, match=f"{name}.*{message}"):
        references.check(tmp_path / name, content)


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        ("auto_map custom_pipelines custom_generate", {}, r"asks for code of its own \(NAME\), which is never run"),
        (
            "tokenizer_name_or_path audio_tokenizer_name_or_path base_model_name_or_path transformers_weights",
            "b" * 90,
            "names '" + "b" * 80 + "', which is not in the folder",
        ),
        (
            "use_pretrained_backbone quantization_config kernel_config fusion_config audio_tokenizer",
            {"a": 1},
            "is not supported, because it reads or changes weights",
        ),
        ("attn_implementation _attn_implementation", "evil/a", "'evil/a' is code of another repository"),
        ("attn_implementation", "a:b", "'a:b' is code of another repository"),
        ("backend", "onnx", "'onnx' is not supported; only torch is"),
        ("backend", "openvino", "'openvino' is not supported; only torch is"),
        (
            "tokenizer_file vocab_file merges_file spm_file gguf_file added_tokens_file fast_tokenizer_files",
            ["a.json", "../" + "b" * 90],
            "names '../" + "b" * 77 + "', which is not in the folder",
        ),
        (
            "model_args model_kwargs tokenizer_args processor_kwargs config_args config_kwargs",
            {"revision": 1, "dtype": "float32", "proxies": 2},
            "holds 'proxies', which is not supported; only these are: add_bos_token, .*use_cache;",
        ),
    ],
)
def test_every_entry_that_names_something_outside_is_known(tmp_path, names, value, message):
    for name in names.split():
        with pytest.raises(ArtefactError, match=rf"a\.json: {name}: {message.replace('NAME', name)}"):
            references.check(tmp_path / "a.json", {"inner": [{name: value}]})


@pytest.mark.parametrize(
    "content",
    [
        dict.fromkeys(
            ("auto_map", "tokenizer_name_or_path", "fusion_config", "tokenizer_file", "model_args", "backend")
        ),
        {"base_model_name_or_path": "", "quantization_config": {}, "attn_implementation": {"": "eager"}},
        {"backend": "torch", "vocab_file": ["vocab.txt", None, 3], "gguf_file": "sub/a.gguf"},
        {"backend": "numpy"},
        {
            "model_kwargs": dict.fromkeys(
                (
                    *(
                        "attn_implementation",
                        "dtype",
                        "torch_dtype",
                        "use_cache",
                        "padding_side",
                        "truncation",
                        "padding",
                    ),
                    *(
                        "model_max_length",
                        "max_length",
                        "add_bos_token",
                        "add_eos_token",
                        "clean_up_tokenization_spaces",
                    ),
                )
            )
        },
    ],
)
def test_entries_that_name_nothing_outside_pass(tmp_path, content):
    references.check(tmp_path / "a.json", content)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".cache/model", "is hidden"),
        ("../.a", "leaves the folder"),
        ("a/../b", "leaves the folder"),
        ("a\\b", "leaves"),
    ],
)
def test_a_name_that_is_not_followed_is_told_with_its_reason(tmp_path, name, reason):
    with pytest.raises(ArtefactError, match=rf"modules\.json: .* {reason}.*; do not open this model"):
        references.check_relative(tmp_path / "modules.json", name)


def test_the_config_of_a_declared_adapter_may_name_its_base_but_no_code(tmp_path):
    path = tmp_path / "adapter_config.json"
    references.check(path, {"base_model_name_or_path": "me/base"}, is_adapter=True)
    with pytest.raises(ArtefactError, match="code of its own"):
        references.check(path, {"base_model_name_or_path": "me/base", "auto_map": {"a": "b"}}, is_adapter=True)
    with pytest.raises(ArtefactError, match="tokenizer_name_or_path: names 'me/base'"):
        references.check(path, {"tokenizer_name_or_path": "me/base"}, is_adapter=True)


@pytest.mark.parametrize("name", [".cache/model", "a/.git/b", "../a", "/a", "a\\b"])
def test_a_name_inside_the_folder_is_visible_and_relative(tmp_path, name):
    references.check_relative(tmp_path / "modules.json", "1_Pooling/a")
    references.check_relative(tmp_path / "modules.json", "")
    with pytest.raises(ArtefactError, match="is hidden|leaves the folder"):
        references.check_relative(tmp_path / "modules.json", name)


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path):
    """A model folder with an adapter on a backbone beside it."""
    backbone = tinyvlm.write_backbone(tmp_path / "base", "idefics3")
    spec = Spec.model_validate({"family": "vlm2vec", "backbone": backbone, "lora": {"rank": 2, "keep": "adapter"}})
    return model_folder.save(Encoder.build(spec), tmp_path / "model")


def edit_config(folder, edit) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config["zoo"])
    (folder / "config.json").write_text(json.dumps(config))
    manifest.write(folder)


def test_an_adapter_states_the_digest_of_its_base_and_opens_on_nothing_else(adapter, tmp_path):
    import zoo

    state = json.loads((adapter / "config.json").read_text())["zoo"]["vlm"]
    assert len(state["sha256"]) == 64
    zoo.from_pretrained(adapter)
    tinyvlm.write_backbone(tmp_path / "base", "idefics3", seed=1)
    with pytest.raises(ArtefactError, match="trained on another version of its backbone"):
        zoo.from_pretrained(adapter)


@pytest.mark.parametrize("revision", ["main", "", "0" * 39])
def test_a_base_on_the_hub_without_a_commit_is_refused_before_any_request(adapter, revision, monkeypatch):
    import zoo
    from zoo.hub import pinned_base

    def name_branch(block) -> None:
        block["spec"]["backbone"]["model"] = "evil/base"
        block["vlm"]["revision"] = revision

    edit_config(adapter, name_branch)
    monkeypatch.setattr(pinned_base, "fetch", lambda *_: pytest.fail("a request was made"))
    with pytest.raises(ArtefactError, match=r"not a\s+commit"):
        zoo.from_pretrained(adapter)


def test_a_base_on_the_hub_with_other_weights_than_the_digest_is_refused(adapter, tmp_path, monkeypatch):
    import zoo
    from zoo.hub import pinned_base

    def name_commit(block) -> None:
        block["spec"]["backbone"]["model"] = "me/base"
        block["vlm"] |= {"revision": "a" * 40, "sha256": "0" * 64}

    edit_config(adapter, name_commit)
    monkeypatch.setattr(pinned_base, "fetch", lambda *_: tmp_path / "base")
    with pytest.raises(ArtefactError, match="trained on another version of its backbone me/base: 0000"):
        zoo.from_pretrained(adapter)


def test_an_adapter_that_the_family_did_not_declare_is_refused_before_any_request(adapter):
    import zoo

    edit_config(adapter, lambda block: block["spec"].pop("lora"))
    with pytest.raises(ZooError, match="makes the libraries load another model"):
        zoo.from_pretrained(adapter)


OPEN = """
import sys
import zoo
requests = []
REQUESTS = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, arguments: requests.append(event) if event in REQUESTS else None)
for folder in sys.argv[1:]:
    zoo.from_pretrained(folder)
print(requests)
"""


@pytest.mark.slow
def test_opening_a_folder_of_any_family_makes_no_request():
    import golden

    folders = [str(path) for path in sorted(golden.GOLDEN.glob("*/model"))]
    online = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_" + "secret" * 6}
    run = subprocess.run([sys.executable, "-c", OPEN, *folders], capture_output=True, text=True, check=True, env=online)
    assert run.stdout.strip() == "[]"
