"""The README.md of a folder that `zoo.deploy` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.deploy.task_scores import TaskScore

NEEDS = {"onnx": "onnxruntime", "openvino": "openvino"}


def render(content: Mapping[str, Any], deviation: str, scores: Sequence[TaskScore]) -> str:
    """Return the card. `content` is that of runtime.json, and `deviation` describes the measurement."""
    source = content["source"]
    lines = [
        f"# {content['name']} for {'ONNX Runtime' if content['engine'] == 'onnx' else 'OpenVINO'}, {content['precision']}",
        "",
        f"A model of the family {content['family']} as one graph from {_name_inputs(content)} to {_name_outputs(content)}",
        "",
        "## How near it is to the original",
        "",
        f"Measured when the folder was written: {deviation}.",
        "",
        *_render_scores(scores),
        "## How to use it",
        "",
        f"It needs numpy, {NEEDS[content['engine']]} and tokenizers, and no torch.",
        "",
        "```bash",
        f"pip install embedding-zoo-runtime {NEEDS[content['engine']]}",
        "```",
        "",
        "```python",
        "import zoo_runtime",
        "",
        'model = zoo_runtime.open_model("THIS FOLDER")',
        "print(model.verify())  # recomputes the canaries",
        f"vectors = model.encode({_name_example(content)})",
        "```",
        "",
        *_render_rest(content),
        "## Where it came from",
        "",
        f"- model: {source['name']}, revision {source['revision']}",
        f"- view: {source['view'] or 'the whole model'}",
        f"- backbone: {source['backbone'] or 'none'}",
        f"- sha256 of the original's manifest: {source['manifest_sha256'] or 'it has none'}",
        f"- written by {source['written_by']}",
        "",
    ]
    return "\n".join(lines)


def _name_inputs(content: Mapping[str, Any]) -> str:
    return {"text": "token ids", "image": "pixels", "vector": "vectors"}[content["modality"]]


def _name_outputs(content: Mapping[str, Any]) -> str:
    if content["similarity"] == "hamming":
        return f"packed codes of {content['dim']} bits. The gradient steps that find a code are inside the graph."
    sets = content.get("token_sets")
    tokens = f"unit vectors of tokens, of {sets['dim']} components, and to " if sets else ""
    return (
        f"{tokens}the final vector of {content['dim']} components. Everything between them, such as pooling, heads and "
        "normalisation, is inside the graph."
    )


def _name_example(content: Mapping[str, Any]) -> str:
    return {"text": '["a text"]', "image": "[pixels]", "vector": "[vector]"}[content["modality"]]


def _render_scores(scores: Sequence[TaskScore]) -> list[str]:
    if not scores:
        return []
    rows = [
        f"| {score.task} | {score.metric} | {score.exact:.4f} | {score.exported:.4f} | {score.exported - score.exact:+.4f} |"
        for score in scores
    ]
    return ["| task | metric | exact | this folder | difference |", "|---|---|---|---|---|", *rows, ""]


def _render_rest(content: Mapping[str, Any]) -> list[str]:
    """Describe prompts, depths, classes and steps, if there are any."""
    lines = []
    for role, prompt in content.get("prompts", {}).items():
        lines.append(f"- Before a {role or 'text without a role'} stands `{prompt}`; `prompt_name` chooses it.")
    depths = sorted({graph["layers"] for graph in content["graphs"] if graph["layers"] is not None})
    if len(depths) > 1:
        lines.append(f"- `model.view(layers=…)` takes {', '.join(map(str, depths))} layers.")
    if content["can_be_cut"]:
        lines.append(f"- `model.view(dim=…)` takes 1 to {content['dim']} components.")
    if content["classes"]:
        lines.append(f"- `model.predict` gives one of {len(content['classes'])} classes.")
    if content.get("token_sets"):
        lines.append(
            "- `model.encode_tokens` gives the vectors of tokens; `token_sets` in runtime.json says which tokens count."
        )
    if content["similarity"] == "hamming":
        lines.append(
            "- Compare codes by the number of bits that differ. The first bit is the highest of the first byte."
        )
    if content["steps"]:
        lines.append(f"- `model.codes` gives codes of the step {content['steps'][0]['step']}.")
    return [*lines, ""] if lines else []
