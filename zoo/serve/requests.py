"""The bodies of requests. An unknown field is an error, so that a misspelt one does not silently change vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from zoo.core.suggest import suggest
from zoo.serve.errors import RequestError

_IMAGE = {"type": "string", "description": "A data URL of an image, for example data:image/png;base64,…"}
_OBJECT = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "image": _IMAGE},
    "additionalProperties": False,
}
_ONE = {"anyOf": [{"type": "string"}, _OBJECT]}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
Inputs = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A text, a list of texts, the token ids of a text, a list of such lists, or images: see the guide.",
            "anyOf": [*_ONE["anyOf"], {"type": "array", "items": _ONE}, _NUMBERS, {"type": "array", "items": _NUMBERS}],
        }
    ),
]
OneInput = Annotated[Any, WithJsonSchema(_ONE)]
Positive = Annotated[int, Field(ge=1)]


class AnyBody(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Body(AnyBody):
    """Base of the bodies that name a model."""

    model: str = Field(description="The name of a model, as /v1/models lists it.")


class EmbeddingsBody(Body):
    """The body of /v1/embeddings."""

    input: Inputs
    dimensions: Positive | None = Field(None, description="Components to keep, if the model can be cut.")
    layers: Positive | None = Field(None, description="Blocks to run, if the model can be cut.")
    input_type: Literal["query", "document"] | None = Field(None, description="Whose prompt is put before each text.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of little-endian numbers.")
    output_dtype: Literal["float", "codes", "decoded"] = Field(
        "float",
        description="codes: the bits or integers of a model that gives codes. float: its bits as -1 and 1. decoded: the vectors "
        "for which the codes of a step stand; with the input_type query, the vectors with which they are compared.",
    )
    precision: str | None = Field(None, description="Precision of the arithmetic; by default that of the server.")
    user: str | None = Field(None, description="Ignored; OpenAI's clients may send it.")


class RerankBody(Body):
    """The body of /v1/rerank."""

    query: OneInput
    documents: list[OneInput]
    top_n: Positive | None = Field(None, description="Results to return; all by default.")
    return_documents: bool = Field(False, description="Whether each result has its document.")
    dimensions: Positive | None = None
    layers: Positive | None = None


class ExplainBody(Body):
    """The body of /explain."""

    query: str
    document: str
    top: Annotated[int, Field(ge=0, le=1000)] = Field(5, description="Contributions to return.")


class PredictBody(Body):
    """The body of /predict."""

    input: Inputs
    top: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="Classes to list for each input, with their probabilities, whether or not one is accepted."
    )


class TraverseBody(Body):
    """The body of /traverse."""

    input: OneInput
    latent: Annotated[int, Field(ge=0)] = Field(description="The number of the latent that is changed, from 0 on.")


class SearchBody(AnyBody):
    """The body of /search."""

    query: Inputs
    index: str | None = Field(None, description="The name of an index; not needed if there is only one.")
    top: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Rows for each query.")
    where: str | None = Field(None, description='A condition on columns, for example year >= 2020 and lang = "en".')
    hybrid: bool | Literal["rank", "relevance"] = Field(
        False, description="Join the ranking with that of BM25: by ranks, or by the map of `zoo index --fit-hybrid`."
    )
    relevant: bool = Field(False, description="Whether rows below the threshold of the step `relevance` are left out.")


BodyType = TypeVar("BodyType", bound=AnyBody)


def read_body(body_class: type[BodyType], content: Any) -> BodyType:
    """Check a parsed body. Raise RequestError that names the field."""
    if not isinstance(content, dict):
        raise RequestError(400, 'the body must be a JSON object, for example {"model": …, "input": …}')
    try:
        return body_class.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    if first["type"] == "extra_forbidden":
        name, known = str(param)[:60], list(body_class.model_fields)
        hint = suggest(name, known, listing="")
        message = f"there is no field {name!r}{hint}; the fields are {', '.join(known)}"
    elif first["type"] == "missing":
        message = f"the field {param!r} is missing"
    else:
        message = f"{param}: {first['msg'].replace('Input should be', 'must be')}"
    raise RequestError(400, message, param=param)
