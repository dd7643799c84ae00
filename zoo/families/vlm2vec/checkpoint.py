"""Vision-language models on disk: open pretrained ones, and write and open model folders.

A model folder is also a folder of sentence-transformers: Transformer, Pooling of the last token, Normalize, and a chat template
that formats inputs as `prompt_template` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from zoo.artefact import headers, preflight, pretrained_model, tensors
from zoo.core import atomic_files, faults
from zoo.core.errors import ArtefactError, ZooError
from zoo.families.vlm2vec.adapted_layers import build_target_pattern
from zoo.families.vlm2vec.architectures import find_pillow_processor, get_architecture, read_settings
from zoo.families.vlm2vec.prompt_template import make_chat_template
from zoo.families.vlm2vec.spec import ADAPTER_FOLDER, Lora, VLMSpec
from zoo.families.vlm2vec.vlm import DEFAULT_MAX_LENGTH, VLM
from zoo.hub.fetch import fetch
from zoo.hub.model_references import find_hub_id, locate
from zoo.hub.pinned_base import find_base
from zoo.text import lora as lora_adapter
from zoo.text.backbone import hide_progress_bars

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
EXTRA_FILES = ("processor_config.json", "video_preprocessor_config.json")
MAX_SIDE, MAX_PIXELS = 4096, 1 << 24  # Qwen's settings give the smallest and the largest image in pixels
LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True, "token": False}
"""Arguments of `from_pretrained` with which transformers reads the folder and nothing else."""

# transformers declares these factories without types.
_auto_model: Any = transformers.AutoModel
_auto_config: Any = transformers.AutoConfig
_auto_tokenizer: Any = transformers.AutoTokenizer


# -- pretrained models --------------------------------------------------------------------------------------------------


def load_pretrained(spec: VLMSpec, folder: Path) -> VLM:
    """Open the pretrained model that a recipe names, at the recipe's dtype and resolution.

    Only safetensors files are read, and code of the model's repository never runs. Raise ZooError if the model cannot be
    opened or its architecture is not supported.
    """
    local_folder = locate(str(spec.model), folder)
    model_folder = local_folder or fetch(str(spec.model), spec.revision)
    revision = compute_weights_digest(model_folder) if local_folder else model_folder.name
    return _open_pretrained_folder(spec, model_folder, revision)


def _open_pretrained_folder(spec: VLMSpec, model_folder: Path, revision: str) -> VLM:
    """Check a folder of transformers and open what it holds."""
    preflight.check_sizes(model_folder, {})
    preflight.check(model_folder)
    architecture = get_architecture(str(read_settings(model_folder / "config.json").get("model_type")))
    processor_settings = (
        read_settings(model_folder / "preprocessor_config.json")
        or read_settings(model_folder / "processor_config.json").get("image_processor")
        or {}
    )
    model, tokenizer = _open_pretrained(spec, model_folder)
    if spec.size:
        processor_settings = processor_settings | architecture.compute_size_settings(spec.size, processor_settings)
    return VLM(
        model,
        tokenizer,
        _make_image_processor(processor_settings, architecture.image_processor),
        name=find_hub_id(str(spec.model)) or str(spec.model),
        revision=revision,
        weights_folder=model_folder,
        max_length=spec.max_length or min(tokenizer.model_max_length, DEFAULT_MAX_LENGTH),
        extra_files=_read_extra_files(model_folder),
    )


def _open_pretrained(spec: VLMSpec, model_folder: Path) -> tuple[Any, Any]:
    """Open model and tokenizer with transformers."""
    options: dict[str, Any] = {"dtype": getattr(torch, DTYPES[spec.dtype])}
    if spec.attention:
        options["attn_implementation"] = spec.attention
    try:
        with hide_progress_bars():
            config = _auto_config.from_pretrained(model_folder, **LOCAL)
            model = pretrained_model.open_model(_auto_model, model_folder, str(spec.model), config, **options)
            tokenizer = _auto_tokenizer.from_pretrained(model_folder, **LOCAL)
    except ZooError:
        raise
    except Exception as error:  # transformers raises errors of any type for a damaged file
        faults.refuse_full_memory(error, f"backbone {spec.model}")
        raise ZooError(f"backbone {spec.model}: cannot be opened: {_first(error)}") from error
    if tokenizer.pad_token_id is None:
        raise ZooError(
            f"backbone {spec.model}: its tokenizer has no padding token, so inputs cannot be batched; choose another model"
        )
    return model, tokenizer


def compute_weights_digest(model_folder: Path) -> str:
    """Return a digest of all safetensors files, or "" if there are none."""
    paths = sorted(model_folder.glob("*.safetensors"))
    return atomic_files.digest([atomic_files.sha256(path) for path in paths]) if paths else ""


def _read_extra_files(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text(encoding="utf-8") for name in EXTRA_FILES if (folder / name).is_file()}


def _make_image_processor(settings: Mapping[str, Any], default_class: str) -> Any:
    """Make the image processor of these settings. Raise ZooError if it would enlarge images beyond any sensible size."""
    class_name = find_pillow_processor(str(settings.get("image_processor_type") or default_class))
    counts_pixels = class_name.startswith("Qwen")
    for name, value in preflight.find_integers(settings):
        limit = MAX_PIXELS if counts_pixels and name.endswith(("_edge", "_pixels")) else MAX_SIDE
        if abs(value) > limit:
            raise ZooError(f"preprocessor_config.json: {name}: {value} is too large; at most {limit} is allowed")
    options = {
        name: value for name, value in settings.items() if name not in ("image_processor_type", "processor_class")
    }
    return getattr(transformers, class_name)(**options)


# -- writing a model folder ---------------------------------------------------------------------------------------------


def write_model(folder: Path, vlm: VLM) -> None:
    """Write config, weights, tokenizer, processors, and the files of sentence-transformers."""
    config = vlm.config.to_dict() | {"architectures": [type(vlm.model).__name__]}
    _write_json(folder / "config.json", json.loads(json.dumps(config, default=str)))
    save_file(tensors.extract(vlm.model), folder / "model.safetensors", metadata={"format": "pt"})
    _write_processor_files(folder, vlm)
    _write_sentence_transformers_files(folder, vlm, "")


def write_adapter(folder: Path, vlm: VLM) -> None:
    """Write the adapter without the weights of the backbone, into a folder of its own inside `folder`.

    transformers looks for weights in any folder with a config.json, so the adapter cannot lie beside the config.json of the
    model folder. The inner folder is a complete model of sentence-transformers: open it from a disk. From the Hub, the whole
    repository opens.
    """
    adapter_folder = folder / ADAPTER_FOLDER
    adapter_folder.mkdir()
    lora_adapter.write_adapter(adapter_folder, vlm.model, str(vlm.name), vlm.revision)
    _write_processor_files(adapter_folder, vlm)
    _write_sentence_transformers_files(folder, vlm, ADAPTER_FOLDER)
    _write_sentence_transformers_files(adapter_folder, vlm, "")


def _write_processor_files(folder: Path, vlm: VLM) -> None:
    """Write tokenizer, processors and chat template."""
    vlm.tokenizer.chat_template = None
    vlm.tokenizer.save_pretrained(folder)
    vlm.image_processor.save_pretrained(folder)
    architecture = vlm.architecture
    for name, content in vlm.extra_files.items():
        (folder / name).write_text(content, encoding="utf-8")
    config = read_settings(folder / "processor_config.json")
    config.pop("image_processor", None)
    config["processor_class"] = architecture.processor
    config |= architecture.compute_processor_config(vlm.config, vlm.image_processor)
    _write_json(folder / "processor_config.json", config)
    chat_template = make_chat_template(architecture.image_placeholder)
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def _write_sentence_transformers_files(folder: Path, vlm: VLM, transformer_path: str) -> None:
    """Write modules.json and the configs of its modules. The Transformer module lies in `transformer_path` below `folder`."""
    classes = {
        transformer_path: "base.modules.transformer.Transformer",
        "1_Pooling": "sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "base.modules.normalize.Normalize",
    }
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.{class_path}"}
        for number, (path, class_path) in enumerate(classes.items())
    ]
    _write_json(folder / "modules.json", modules)
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    _write_json(
        folder / transformer_path / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": forward, "image": forward, "message": {**forward, "format": "structured"}},
            "module_output_name": "token_embeddings",
        },
    )
    _write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": vlm.width, "pooling_mode": "lasttoken"})
    _write_json(folder / "2_Normalize" / "config.json", {})
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def write_prompts(folder: Path, prompts: Mapping[str, str]) -> None:
    """Write the instructions, by role, as prompts into every sentence-transformers config in `folder`."""
    for path in folder.rglob("config_sentence_transformers.json"):
        _write_json(path, read_settings(path) | {"prompts": dict(prompts)})


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# -- opening a model folder ---------------------------------------------------------------------------------------------


def load_model(spec: VLMSpec, folder: Path, state: Mapping[str, Any]) -> VLM:
    """Open the model that `write_model` wrote. `state` is the `vlm` entry of the `zoo` block in config.json.

    Raise ArtefactError for a config that does not fit the weights, and for tensors that are missing, extra, mis-shaped or not
    finite. Config and weights are compared before any memory of the size that the config claims is allocated.
    """
    stored_shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        stored_shapes |= headers.read_header(path)
    config = _load_config(folder, max_layers=max(1, len(stored_shapes)))
    try:
        with torch.device("meta"):  # shapes without memory
            shapes = tensors.get_shapes(_auto_model.from_config(config, trust_remote_code=False))
    except Exception as error:  # transformers raises errors of any type for a damaged config
        raise ArtefactError(f"{folder / 'config.json'}: no model can be made of it: {_first(error)}") from None
    if sum(map(math.prod, shapes.values())) > 2 * sum(map(math.prod, stored_shapes.values())) + 1:
        raise ArtefactError(
            f"{folder / 'config.json'}: describes a larger model than the weights hold; download the model again"
        )
    preflight.check_shapes(folder, shapes)
    options: dict[str, Any] = {"dtype": getattr(torch, DTYPES[spec.dtype])}
    if spec.attention:
        options["attn_implementation"] = spec.attention
    with torch.random.fork_rng(devices=[]):
        model = _auto_model.from_config(config, trust_remote_code=False, **options)
    tensors.fill(model, tensors.read(folder), folder)
    return _add_processors(folder, model, state)


def load_with_adapter(spec: VLMSpec, lora: Lora, folder: Path, state: Mapping[str, Any]) -> VLM:
    """Open the pretrained backbone and add the adapter that `write_adapter` wrote.

    Raise ArtefactError if the backbone is not the revision that the adapter was trained on, or the adapter does not fit.
    """
    revision = str(state.get("revision") or "")
    # A local backbone has the digest of its weights for its revision.
    expected = revision if locate(str(spec.model)) else state.get("sha256")
    model_folder = find_base(str(spec.model), folder, revision, expected, compute_weights_digest)
    backbone = _open_pretrained_folder(spec, model_folder, revision)
    with torch.random.fork_rng(devices=[]):
        lora_adapter.insert_adapter(backbone.model, lora, build_target_pattern(backbone, lora))
    lora_adapter.load_adapter_weights(folder / ADAPTER_FOLDER, backbone.model)
    vlm = _add_processors(folder / ADAPTER_FOLDER, backbone.model, state)
    vlm.name, vlm.revision, vlm.weights_folder = backbone.name, revision, model_folder
    return vlm


def _add_processors(folder: Path, model: Any, state: Mapping[str, Any]) -> VLM:
    """Combine `model` with the tokenizer and the image processor of a model folder."""
    max_length = state.get("max_length")
    if type(max_length) is not int or not 1 <= max_length <= 1 << 20:
        raise ArtefactError(
            f"{folder / 'config.json'}: max_length {str(max_length)[:20]} is not a number of tokens from 1 to {1 << 20}"
        )
    with hide_progress_bars():
        tokenizer = _auto_tokenizer.from_pretrained(folder, **LOCAL)
    architecture = get_architecture(model.config.model_type)
    settings = read_settings(folder / "preprocessor_config.json")
    image_processor = _make_image_processor(settings, architecture.image_processor)
    return VLM(model, tokenizer, image_processor, max_length=max_length, extra_files=_read_extra_files(folder))


def _load_config(folder: Path, max_layers: int) -> Any:
    """Open config.json as a config of transformers. Raise ArtefactError if its numbers are implausible."""
    settings = read_settings(folder / "config.json")
    settings.pop("zoo", None)
    preflight.check_integers(folder / "config.json", _drop_window_layers(settings), max_layers)
    get_architecture(str(settings.get("model_type")))
    try:
        return _auto_config.for_model(**settings)
    except Exception as error:  # the installed transformers does not accept this config
        raise ArtefactError(
            f"{folder / 'config.json'}: is not a config that transformers accepts: {_first(error)}"
        ) from None


def _drop_window_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Remove `max_window_layers` at every depth: the entry is an upper bound and often exceeds the number of layers."""
    return {
        name: _drop_window_layers(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name != "max_window_layers"
    }


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
