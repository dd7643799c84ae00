"""Canaries: fixed inputs whose exact vectors a model folder holds, so that anybody can see whether a server has its space.

The inputs are short texts of many kinds, small images made by a formula, and vectors made by a formula. They never change: a
later format gets a new number. The vectors are those of `encode` when the folder was saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zoo.artefact import headers
from zoo.core import atomic_files, strict_json
from zoo.core.errors import ArtefactError

FOLDER = "canaries"
"""The folder inside a model folder."""
INPUTS, VECTORS = f"{FOLDER}/inputs.json", f"{FOLDER}/vectors.safetensors"
FORMAT = 1
MAX_INPUTS, MAX_CHARACTERS, MAX_COMPONENTS = 256, 20_000, 1 << 20
"""Limits of what a folder of somebody else may hold."""
ROLES = (None, "query", "document")
Array = npt.NDArray[Any]

_NAMES = (
    "river copper window lantern meadow engine violin harbour glacier pepper saddle comet orchard tunnel basket falcon"
)
LONG_TEXT = " ".join(f"{_NAMES.split()[n % 16]} {n * 37 % 1000}" for n in range(330))
"""More than 600 tokens, and no two parts are equal: a text that is cut at another place has another vector."""

TEXTS = (
    "a",
    ".",
    "the cat sleeps on the sofa",
    "How do I cancel my order?",
    "A man is playing a guitar on the stage.",
    "no man is playing a guitar on the stage",
    "ALL CAPITALS: NEVER OPEN THIS DOOR",
    "Apple and apple, Polish and polish, US and us",
    "3.14159, 42, 1,000,000 and 7e-9 on 2024-02-29",
    "+49 (0)30 901820, room B-17, 10:45",
    "Der Zug nach München fährt heute später ab.",
    "Le garçon naïf a mangé une crêpe à Noël.",
    "¿Dónde está la estación de autobuses más cercana?",
    "Мама мыла раму, а папа читал газету.",
    "今日は天気がいいから、散歩しましょう。",
    "我们明天早上去图书馆看书。",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "नमस्ते दुनिया, आप कैसे हैं?",
    "오늘 저녁에 무엇을 먹을까요?",
    "emoji 😀 👩‍👩‍👧 and e\u0301 as two characters",
    "  spaces   in\tand around,\nand a second line  ",
    "def add(a, b):\n    return a + b  # sum",
    "https://example.org/path?id=17&lang=en#part-2",
    "word word word word word word word word",
    "Fever, cough and shortness of breath for three days; no chest pain. The patient takes metformin twice a day, has never "
    "smoked, and travelled by train last week together with two colleagues who have since been ill.",
    LONG_TEXT,
    "what causes a blue sky",
    "cheapest train from Lyon to Turin",
    "symptoms of iron deficiency",
    "Sunlight is scattered by the molecules of the air, and blue light more than red light.",
    "A ticket costs 35 euros if it is bought two weeks before the journey.",
    "Tiredness and pale skin are common if the body lacks iron.",
)
QUERIES = frozenset(TEXTS[26:29])
DOCUMENTS = frozenset(TEXTS[29:32])
"""Texts that have a role, if the encoder tells queries from documents."""

IMAGE_FORMULAS = (
    (32, 32, 3, 0, 0, 0, 128),
    (32, 32, 3, 8, 0, 0, 0),
    (32, 32, 3, 0, 8, 0, 0),
    (48, 64, 3, 3, 5, 0, 40),
    (37, 53, 3, 97, 61, 13, 7),
    (64, 64, 3, 0, 0, 1, 200),
    (28, 28, 0, 9, 0, 0, 0),
    (40, 24, 0, 131, 77, 29, 3),
)
"""Height, width, channels (0 for grey), and the factors of x, y, x · y and 1 in the formula of a pixel."""
VECTOR_COUNT = 8


class Canary(NamedTuple):
    """One input.

    Attributes:
        kind: "text", "image" or "vector".
        content: the text; the number of an image of `IMAGE_FORMULAS`; the number of a vector.
        role: "query" or "document" for `encode_query` or `encode_document`; None for `encode`.
        components: those of a vector; 0 for other inputs.
    """

    kind: str
    content: str | int
    role: str | None = None
    components: int = 0

    def make_input(self) -> Any:
        """Return the input as `encode` takes it: a text, pixels (h, w[, 3]) uint8, or a vector (components,) float32."""
        if self.kind == "text":
            return self.content
        return (
            make_image(int(self.content)) if self.kind == "image" else make_vector(int(self.content), self.components)
        )


class Canaries(NamedTuple):
    """Canaries, and their vectors (n, …) in the same order."""

    canaries: tuple[Canary, ...]
    vectors: Array


class CanaryEncoder(Protocol):
    """The members of an encoder that make canaries. `zoo.encoder.Encoder` describes each of them."""

    def make_canaries(self) -> Sequence[Canary]: ...

    def encode(self, inputs: Iterable[Any], *, prompt_name: str | None = None) -> Any: ...


def make_image(number: int) -> Array:
    """Return the pixels (h, w, 3) or (h, w) uint8 of an image: (x·X + y·Y + x·y·XY + C + 64·channel) mod 256."""
    height, width, channels, of_x, of_y, of_product, start = IMAGE_FORMULAS[number]
    y, x = np.mgrid[:height, :width]
    grey = x * of_x + y * of_y + x * y * of_product + start
    pixels = np.stack([grey + 64 * channel for channel in range(channels)], axis=-1) if channels else grey
    return (pixels % 256).astype(np.uint8)


def make_vector(number: int, components: int) -> Array:
    """Return a vector (components,) float32 of whole multiples of 1/512 between -2 and 2, the same on every machine."""
    places = np.arange(components, dtype=np.int64)
    return (((places * 7919 + number * 104_729 + places * places * (number + 1) * 31) % 2047 - 1023) / 512).astype(
        np.float32
    )


def list_texts(*, has_roles: bool) -> list[Canary]:
    """Return the canaries that are texts, some of them with a role if the encoder knows roles."""
    roles = {**dict.fromkeys(QUERIES, "query"), **dict.fromkeys(DOCUMENTS, "document")} if has_roles else {}
    return [Canary("text", text, roles.get(text)) for text in TEXTS]


def list_images() -> list[Canary]:
    """Return the canaries that are images."""
    return [Canary("image", number) for number in range(len(IMAGE_FORMULAS))]


def list_vectors(components: int) -> list[Canary]:
    """Return canaries for an encoder that takes vectors of so many components."""
    return [Canary("vector", number, components=components) for number in range(VECTOR_COUNT)]


def encode(encoder: CanaryEncoder, canaries: Sequence[Canary]) -> Array:
    """Return the vectors (n, …) of canaries in order. Those of one kind and one role are encoded together."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, canary in enumerate(canaries):
        groups.setdefault((canary.kind, canary.role), []).append(place)
    rows: list[Any] = [None] * len(canaries)
    for (_, role), places in groups.items():
        inputs = [canaries[place].make_input() for place in places]
        vectors = np.asarray(encoder.encode(inputs, prompt_name=role))
        for place, vector in zip(places, vectors, strict=True):
            rows[place] = vector
    return np.stack(rows)


def write(encoder: CanaryEncoder, folder: Path) -> None:
    """Write the canaries of an encoder into its model folder. Nothing is written for an encoder that has none."""
    from safetensors.numpy import save_file

    canaries = list(encoder.make_canaries())
    if not canaries:
        return
    (folder / FOLDER).mkdir()
    entries = [
        {canary.kind: canary.content}
        | ({} if canary.role is None else {"role": canary.role})
        | ({"components": canary.components} if canary.components else {})
        for canary in canaries
    ]
    atomic_files.write_json(folder / INPUTS, {"format": FORMAT, "inputs": entries})
    save_file({"vectors": np.ascontiguousarray(encode(encoder, canaries))}, folder / VECTORS)


def read(folder: Path) -> Canaries | None:
    """Read the canaries of a model folder; None for a folder of an older version, which has none.

    Call it for a folder that agrees with its manifest. Raise ArtefactError for files that do not belong together.
    """
    if not (folder / FOLDER).is_dir():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content = strict_json.read(folder / INPUTS)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtefactError(f"{folder / INPUTS}: has a format that is unknown here; update embedding-zoo")
        canaries = tuple(map(_read_entry, content["inputs"]))
        if not 0 < len(canaries) <= MAX_INPUTS:
            raise ValueError(f"it has {len(canaries)} inputs")
        headers.read_entries(folder / VECTORS)
        vectors = load_file(folder / VECTORS)["vectors"]
        if len(vectors) != len(canaries) or not np.isfinite(vectors).all():
            raise ValueError("the vectors are not those of the inputs")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, SafetensorError) as error:
        problem = str(error)[:120]
        raise ArtefactError(f"{folder / FOLDER}: cannot be read: {problem}; download the model again") from None
    return Canaries(canaries, vectors)


def _read_entry(entry: Any) -> Canary:
    """Read one input. Raise an error of Python for anything that `write` does not write."""
    (kind,) = entry.keys() & {"text", "image", "vector"}
    content, role, components = entry[kind], entry.get("role"), entry.get("components", 0)
    is_text = kind == "text" and isinstance(content, str) and len(content) <= MAX_CHARACTERS
    count = len(IMAGE_FORMULAS) if kind == "image" else VECTOR_COUNT
    is_number = kind != "text" and type(content) is int and 0 <= content < count
    if not (is_text or is_number) or role not in ROLES or type(components) is not int:
        raise ValueError("an input is not of a known kind")
    if not 0 <= components <= MAX_COMPONENTS or (kind == "vector") != bool(components):
        raise ValueError("an input has a wrong number of components")
    return Canary(kind, content, role, components)
