"""Vision-language models on disk: pretrained ones opened, artefacts written and opened strictly.

An artefact is also a folder of stock sentence-transformers: Transformer, Pooling of the last token, Normalize, and a chat
template that words its inputs as they are worded here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artefact import preflight, tensors
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, ZooError
from zoo.core.lazy import lazy
from zoo.families.vlm2vec import lora_adapter
from zoo.families.vlm2vec.architectures import architecture, image_processor, read_settings
from zoo.families.vlm2vec.prompt_template import chat_template
from zoo.families.vlm2vec.spec import Lora, VLMSpec
from zoo.families.vlm2vec.vlm import LONGEST, VLM
from zoo.hub.fetch import fetch
from zoo.hub.model_references import find_hub_id, locate
from zoo.text.backbone import hide_progress_bars

if TYPE_CHECKING:
    import torch
    import transformers
else:
    torch, transformers = lazy("torch"), lazy("transformers")

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BESIDE = ("processor_config.json", "video_preprocessor_config.json")
SIDE, PIXELS = 4096, 1 << 24  # Qwen has its smallest and largest image in pixels
ADAPTER = "adapter"
MODULES = ("Transformer", "Pooling", "Normalize")


def load(spec: VLMSpec, folder: Path) -> VLM:
    """The pretrained model that a recipe names, at its dtype and resolution: safetensors only, no code of its own. Raises
    ZooError where it cannot be had or its architecture has no adapter."""
    reference = str(spec.model)
    local = locate(reference, folder)
    where = local or fetch(reference, spec.revision)
    preflight.check_sizes(where, {})
    preflight.check(where)
    kind = architecture(str(read_settings(where / "config.json").get("model_type")))
    own = (
        read_settings(where / "preprocessor_config.json")
        or read_settings(where / "processor_config.json").get("image_processor")
        or {}
    )
    settings: dict[str, Any] = {"dtype": getattr(torch, DTYPES[spec.dtype])}
    if spec.attention:
        settings["attn_implementation"] = spec.attention
    try:
        with hide_progress_bars():
            model = transformers.AutoModel.from_pretrained(
                where, use_safetensors=True, trust_remote_code=False, **settings
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # whatever the libraries make of a file that is not what it says
        raise ZooError(f"backbone {reference}: cannot be opened: {_first(error)}") from error
    if tokenizer.pad_token_id is None:
        raise ZooError(f"backbone {reference}: its tokenizer has no padding token, so inputs cannot be batched")
    if spec.size:
        own = own | kind.resized(spec.size, own)
    found = where.name if local is None else _fingerprint(where)
    return VLM(
        model,
        tokenizer,
        _processor(own, kind.image_processor),
        name=find_hub_id(reference) or reference,
        revision=found,
        max_length=spec.max_length or min(tokenizer.model_max_length, LONGEST),
        beside={name: (where / name).read_text(encoding="utf-8") for name in BESIDE if (where / name).is_file()},
    )


def _fingerprint(where: Path) -> str:
    weights = sorted(where.glob("*.safetensors"))
    return atomic_files.digest([atomic_files.sha256(path) for path in weights]) if weights else ""


def _processor(own: Mapping[str, Any], default: str) -> Any:
    """Raises ZooError for one that would make any image enormous."""
    kind = image_processor(str(own.get("image_processor_type") or default))
    whole = kind.startswith("Qwen")
    for name, value in preflight.find_integers(own):
        if abs(value) > (PIXELS if whole and name.endswith(("_edge", "_pixels")) else SIDE):
            raise ZooError(f"preprocessor_config.json: {name}: {value} is beyond every image")
    settings = {name: value for name, value in own.items() if name not in ("image_processor_type", "processor_class")}
    return getattr(transformers, kind)(**settings)


# -- artefact ----------------------------------------------------------------------------------------------------------


def write(folder: Path, vlm: VLM) -> None:
    """Config, weights, tokenizer, processors, and what stock libraries want."""
    from safetensors.torch import save_file

    config = vlm.config.to_dict() | {"architectures": [type(vlm.model).__name__]}
    _json(folder / "config.json", json.loads(json.dumps(config, default=str)))
    save_file(tensors.extract(vlm.model), folder / "model.safetensors", metadata={"format": "pt"})
    _beside(folder, vlm)
    _stock(folder, vlm, "")


def write_adapter(folder: Path, vlm: VLM) -> None:
    """The adapter of a model in place of its weights, in a folder of its own, which is a whole model of sentence-transformers:
    stock libraries look for weights in any folder with a config.json, and open this one from the Hub alone."""
    inner = folder / ADAPTER
    inner.mkdir()
    lora_adapter.write(inner, vlm, str(vlm.name), vlm.revision)
    _beside(inner, vlm)
    _stock(folder, vlm, ADAPTER)
    _stock(inner, vlm, "")


def _beside(folder: Path, vlm: VLM) -> None:
    """Tokenizer, processors and chat template."""
    vlm.tokenizer.chat_template = None
    vlm.tokenizer.save_pretrained(folder)
    vlm.image_processor.save_pretrained(folder)
    kind = vlm.architecture
    for name in vlm.beside:
        (folder / name).write_text(vlm.beside[name], encoding="utf-8")
    stock = read_settings(folder / "processor_config.json")
    stock.pop("image_processor", None)
    stock |= {"processor_class": kind.processor, **kind.told(vlm.config, vlm.image_processor)}
    _json(folder / "processor_config.json", stock)
    (folder / "chat_template.jinja").write_text(chat_template(kind.marker), encoding="utf-8")


def _stock(folder: Path, vlm: VLM, transformer: str) -> None:
    """What sentence-transformers reads of a model of three modules, the first of which lies in the folder `transformer`."""
    names = [transformer, "1_Pooling", "2_Normalize"]
    paths = {"Transformer": "base.modules.transformer.Transformer"}
    paths |= {"Pooling": "sentence_transformer.modules.pooling.Pooling"}
    paths |= {"Normalize": "base.modules.normalize.Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": name, "type": f"sentence_transformers.{paths[kind]}"}
        for i, (name, kind) in enumerate(zip(names, MODULES, strict=True))
    ]
    _json(folder / "modules.json", modules)
    message = {"method": "forward", "method_output_name": "last_hidden_state", "format": "structured"}
    plain = {"method": "forward", "method_output_name": "last_hidden_state"}
    _json(
        folder / transformer / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": plain, "image": plain, "message": message},
            "module_output_name": "token_embeddings",
        },
    )
    _json(folder / "1_Pooling" / "config.json", {"embedding_dimension": vlm.width, "pooling_mode": "lasttoken"})
    _json(folder / "2_Normalize" / "config.json", {})
    about: dict[str, Any] = {"model_type": "SentenceTransformer", "prompts": {}, "default_prompt_name": None}
    _json(folder / "config_sentence_transformers.json", about | {"similarity_fn_name": "cosine"})


def prompts(folder: Path, named: Mapping[str, str]) -> None:
    """The instructions, by role, wherever stock libraries look for them."""
    for path in folder.rglob("config_sentence_transformers.json"):
        _json(path, read_settings(path) | {"prompts": dict(named)})


def read(spec: VLMSpec, folder: Path, state: Mapping[str, Any]) -> VLM:
    """The model that `write` wrote, with its weights. Raises ArtefactError for a config that is beyond every model, and for
    tensors that are missing, extra, mis-shaped or not finite; before anything of a size that no file holds is made."""
    held: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        held |= preflight.read_header(path)
    config = _config(folder, most=max(1, len(held)))
    make: Any = transformers.AutoModel.from_config
    kept = {"attn_implementation": spec.attention} if spec.attention else {}
    dtype = getattr(torch, DTYPES[spec.dtype])
    try:
        with torch.device("meta"):  # shapes without memory
            shapes = tensors.get_shapes(make(config, trust_remote_code=False))
    except Exception as error:  # whatever the library makes of a config that is none
        raise ArtefactError(f"{folder / 'config.json'}: no model can be made of it: {_first(error)}") from None
    if sum(map(math.prod, shapes.values())) > 2 * sum(map(math.prod, held.values())) + 1:
        raise ArtefactError(f"{folder / 'config.json'}: describes more numbers than the weights hold")
    preflight.check_shapes(folder, shapes)
    with torch.random.fork_rng(devices=[]):
        model = make(config, trust_remote_code=False, dtype=dtype, **kept)
    tensors.fill(model, tensors.read(folder), folder)
    return opened(folder, model, state)


def with_adapter(spec: VLMSpec, lora: Lora, folder: Path, state: Mapping[str, Any]) -> VLM:
    """The pretrained base with the adapter that lies in an artefact's folder. Raises ArtefactError for a base that is no longer
    the one it was trained on, and for an adapter that does not fit it."""
    revision = str(state.get("revision") or "")
    pinned = {"revision": revision} if locate(str(spec.model)) is None else {}
    body = load(spec.model_copy(update=pinned), Path())
    if body.revision != revision:
        raise ArtefactError(f"{folder}: its base {spec.model} is {body.revision[:12]}, not {revision[:12]} any more")
    with torch.random.fork_rng(devices=[]):
        lora_adapter.put_in(body, lora)
    lora_adapter.fill(folder / ADAPTER, body)
    found = opened(folder / ADAPTER, body.model, state)
    found.name, found.revision = body.name, body.revision
    return found


def opened(folder: Path, model: Any, state: Mapping[str, Any]) -> VLM:
    """`model` with the tokenizer and the image processor that lie in an artefact's folder."""
    limit = state.get("max_length")
    if type(limit) is not int or not 1 <= limit <= 1 << 20:
        raise ArtefactError(f"{folder / 'config.json'}: max_length {str(limit)[:20]} is no number of tokens")
    with hide_progress_bars():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    kind = architecture(model.config.model_type)
    processor = _processor(read_settings(folder / "preprocessor_config.json"), kind.image_processor)
    beside = {name: (folder / name).read_text(encoding="utf-8") for name in BESIDE if (folder / name).is_file()}
    return VLM(model, tokenizer, processor, max_length=limit, beside=beside)


def _config(folder: Path, most: int) -> Any:
    found = read_settings(folder / "config.json")
    found.pop("zoo", None)
    preflight.check_integers(folder / "config.json", _counted(found), most)
    architecture(str(found.get("model_type")))
    try:
        return transformers.AutoConfig.for_model(**found)
    except Exception as error:  # a config that the installed library does not take
        raise ArtefactError(f"{folder / 'config.json'}: no config of transformers: {_first(error)}") from None


def _counted(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without an entry that sounds like a number of layers and is a bound, often beyond them."""
    return {
        name: _counted(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name != "max_window_layers"
    }


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
