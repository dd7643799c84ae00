"""`Encoder`, the base of every family's encoder: what a trained or trainable encoder can do.

A family defines a subclass called `Encoder` in its encoder.py, and a subclass of `EncoderSpec` called `Spec` in its spec.py.
"""

from __future__ import annotations

import copy
import inspect
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from zoo import encoding
from zoo.artefact import canaries, reopening
from zoo.core import forks, visible
from zoo.core import inputs as input_checks
from zoo.core.errors import ZooError
from zoo.core.findings import Finding
from zoo.core.training_log import Say
from zoo.data.data_source import DataSource
from zoo.data.joined import find_spans
from zoo.data.spec import Mixture
from zoo.fitted_steps import FittedSteps, prepare_vectors
from zoo.graph import Graph
from zoo.schema import Training
from zoo.spec import EncoderSpec
from zoo.training import automatic, objective_checks
from zoo.training.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

    from zoo.label_geometry import LabelMetric
    from zoo.training.space import Space


@cache
def _takes_roles(encode: Any) -> bool:
    """Return whether a family's `_encode` takes `prompt_type`."""
    return "prompt_type" in inspect.signature(encode).parameters


@dataclass(frozen=True)
class TrainingRun:
    """What `Encoder.train` gets.

    Attributes:
        rows: the training rows.
        settings: the recipe's `training:` section.
        folder: receives checkpoints/ and metrics.jsonl.
        validation: held-out rows, or None; never test data.
        watch: validation tasks, or None. Their score then decides what the loss of `validation` would decide.
        show_progress: whether a progress bar is shown on stderr.
        say: receives lines about rate, epoch and time left if no bar is shown; None for none.
        finish: take the newest checkpoint for the result instead of training on.
        spans, validation_spans: the row numbers of each source; {} if the rows are from one data section.
    """

    rows: Dataset
    settings: Training
    folder: Path
    validation: Dataset | None = None
    show_progress: bool = False
    say: Say | None = None
    finish: bool = False
    spans: Mapping[str, range] = field(default_factory=dict)
    validation_spans: Mapping[str, range] = field(default_factory=dict)
    watch: Watch | None = None


class Encoder:
    """A trained or trainable encoder. It holds its torch modules in `module`; views share them.

    Attributes that evaluation, card and hub read:
        spec: the family's section of the recipe.
        module: every trainable tensor; an empty module for families without any.
        dim: components of an encoded vector (bits for binary codes).
        view_options: the options of this view, e.g. {"layers": 3, "dim": 128}; {} for the whole encoder.
        similarity_fn_name: "cosine", "dot" or "hamming".
        backbone_name, backbone_revision: id and content hash (or commit) of the pretrained model that training starts from.
        seed, step: a loss may draw random numbers from these two only. The trainer sets `step`, the current optimiser step.
        folder: where relative paths in `spec` start.
        tables: rows of the data sections that `spec.extra_datasets` names, by the last step of their path.
        sources, mixture: the sources of the training rows by name, and how batches are made of them. They are set before
            `prepare`; {} if the rows are from one data section. A row of several sources has the key `source`, its source's name.
        rows_seen: how many of its rows the training read; None if it read all of them.
        space_watch: figures of the space that are followed along the training; None for none. It is set before `fit`.
        chosen: what `fit` chose where the settings are `auto`, by dotted path of the recipe.
        default_precision: the precision of `encode` and `stream` if they get none.
    """

    similarity_fn_name: str = "cosine"
    default_precision: str = "fp32"
    _moves: ClassVar[bool] = True  # whether `module` is what encodes

    finish_trains: ClassVar[bool] = False  # whether `finish` is part of the training, and not only measures its result

    spec: EncoderSpec
    module: torch.nn.Module
    dim: int
    backbone_name: str | None = None

    def __init__(self) -> None:
        self.view_options: dict[str, Any] = {}
        self.name = "encoder"
        self.revision = "untrained"
        self.seed = 42
        self.step = 0
        self.folder = Path()
        self.backbone_revision = ""
        self.tables: dict[str, Dataset] = {}
        self.sources: dict[str, DataSource] = {}
        self.mixture = Mixture()
        self.rows_seen: int | None = None
        self.chosen: dict[str, Any] = {}
        self.space_watch: Space | None = None
        self._fitted = FittedSteps()
        forks.note_model()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Kinds of inputs that `encode` takes: text, image, vector."""
        return self.spec.modalities

    @property
    def accepts_mixed_inputs(self) -> bool:
        """Whether one input may hold several modalities."""
        return self.spec.accepts_mixed_inputs

    def table(self, name: str) -> Dataset:
        """The rows of a data section that `spec.extra_datasets` names, by the last step of its path.

        Read the data if `tables` does not hold it yet. Raises DataError.
        """
        if name not in self.tables:
            from zoo import data

            dataset = next(entry for path, entry in self.spec.extra_datasets().items() if path[-1] == name)
            table = data.read(dataset.data, dataset.roles, dataset.optional, folder=self.folder)
            self.tables[name] = table.rows
        return self.tables[name]

    # -- training --------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, spec: Any, *, seed: int = 42, folder: Path = Path()) -> Self:
        """The untrained encoder. Raises ZooError if the backbone cannot be loaded or is not supported."""
        raise NotImplementedError

    @classmethod
    def open_untrained(cls, spec: Any) -> Self:
        """The encoder of `build` for use without a training. Default: `build`."""
        return cls.build(spec)

    @classmethod
    def open_scorer(cls, spec: Any, folder: Path) -> Any:
        """Return the teacher of the spec, which scores pairs of texts, or None. Default: None.

        It has `score(pairs)`, which returns numbers (n,), and `fingerprint`, a text that changes with the scores. Relative paths
        in `spec` start at `folder`.
        """
        return None

    def prepare(self, rows: Dataset, cache: Path) -> None:
        """See the training rows once before training, for example to build a vocabulary or to compute teacher vectors.

        The result is deterministic. Whatever takes long is kept in the folder `cache`, which survives a killed run.
        """

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Turn rows of the data set into a batch of tensors."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Scalar training loss of one batch."""
        raise NotImplementedError

    def parameter_groups(self, training: Training) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser. Default: every trainable parameter, at the recipe's learning rate."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def fit(
        self,
        rows: Dataset,
        settings: Training,
        folder: Path,
        *,
        validation: Dataset | None = None,
        show_progress: bool = False,
        say: Say | None = None,
        finish: bool = False,
        watch: Watch | None = None,
    ) -> float:
        """Train in place, and return the seconds it took, including those before an interruption.

        The arguments are those of `TrainingRun`. Raises ZooError for validation rows that the family does not use, and for
        rows from which its loss can learn nothing.
        """
        if (validation is not None or watch is not None) and not self.spec.uses_validation:
            raise ZooError(f"the family {self.spec.family} does not look at held-out rows: leave `validation` out")
        run = TrainingRun(rows, settings, folder, validation, show_progress, say, finish, watch=watch)
        row_count = len(rows)
        if self.sources:
            arguments = (validation, self.sources, self.mixture)
            row_count = objective_checks.check_sources(self.spec, settings, rows, *arguments).rows_per_epoch
            run = replace(run, spans=find_spans(rows), validation_spans=find_spans(validation))
        else:
            objective_checks.check_rows(self.spec, settings, rows, validation)
        has_validation = validation is not None or watch is not None
        length = automatic.choose_length(self.spec, settings, row_count, has_validation=has_validation, say=say)
        self.chosen = {f"training.{name}": value for name, value in length.items()}
        run = replace(run, settings=settings.model_copy(update=length))
        try:
            if not (settings.sigma_reparam and self.spec.reads_training_field("sigma_reparam")):
                return self.train(run)
            from zoo.training import sigma_reparam

            with sigma_reparam.reparametrise(self.module):
                return self.train(run)
        finally:
            self._forget_engines()  # a fused optimiser changes matrices without a trace that engines could see

    def find_depths(self) -> Mapping[Any, int] | None:
        """Return the depth of each parameter of a text backbone: 0 for embeddings, n for block n. None without such blocks.

        Parameters after the last block, for example of a last norm, have its depth.
        """
        backbone = getattr(self, "backbone", None)
        list_blocks = getattr(backbone, "_blocks", None)
        if backbone is None or list_blocks is None:
            return None
        depth_in_blocks = {
            parameter: depth for depth, block in enumerate(list_blocks(), 1) for parameter in block.parameters()
        }
        depths, last = {}, 0
        for parameter in backbone.model.parameters():
            last = max(last, depth_in_blocks.get(parameter, 0))
            depths[parameter] = depth_in_blocks.get(parameter, last)
        return depths

    @property
    def usual_learning_rate(self) -> float:
        """The learning rate that fits most data, from which a range test starts."""
        return self.spec.usual_learning_rate

    def train(self, run: TrainingRun) -> float:
        """Train in place, and return the seconds it took. Default: train `loss` with `zoo.training`.

        A family with a trainer of its own overrides this; it keeps checkpoints and metrics.jsonl in `run.folder` too.
        """
        from zoo.training import learning_rate_test, trainer

        run = self._mix_sources(run)
        settings, start_time = run.settings, time.monotonic()
        if settings.learning_rate == "auto":
            rate = learning_rate_test.choose_learning_rate(self, run)
            self.chosen["training.learning_rate"] = rate
            settings = settings.model_copy(update={"learning_rate": rate})
        test_seconds = time.monotonic() - start_time
        return test_seconds + trainer.fit(
            self,
            run.rows,
            settings,
            run.folder,
            validation=run.validation,
            show_progress=run.show_progress,
            say=run.say,
            finish=run.finish,
            watch=run.watch,
        )

    def _mix_sources(self, run: TrainingRun) -> TrainingRun:
        """Return the run with its rows in the order of `mixture`, if they are from several sources."""
        if not (self.sources and run.spans):
            return run
        from zoo.training import mixture

        rows: Any = mixture.mix(run.rows, run.spans, self.sources, self.mixture, run.settings.batch_size)
        validation: Any = run.validation
        if run.validation_spans:
            validation = mixture.watch(run.validation, run.validation_spans, rows.plan)
        return replace(run, rows=rows, validation=validation)

    def use_trained_weights(self) -> None:
        """Let `encode` use the weights as they are in the middle of a training. Default: drop copies that were made for it."""
        self._forget_engines()

    def finish(self, rows: Dataset) -> None:
        """See the training rows once after training, for example to place label vectors."""

    def measure_activations(self, rows: Dataset) -> None:
        """See the training rows once after `finish`, to measure the ranges that int8 needs. Default: nothing."""

    # -- use -------------------------------------------------------------------------------------------------------

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        batch_size: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        prompt_type: str | None = None,
        show_progress_bar: bool | None = False,
        precision: str | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        device: Any = None,
        **options: Any,
    ) -> Any:
        """Vectors in the order of `inputs`: (n, dim) float32, or packed uint8 codes (n, ceil(dim / 8)).

        The arguments are those of sentence-transformers. Two of them mean something else here: `precision` is that of the
        arithmetic, and a single text is refused.

        Args:
            inputs: a list or any iterable in order, for example a column of a table.
            batch_size: at most so many inputs are encoded at once. By default, the encoder chooses batches by their tokens.
            prompt: a text to put before each text.
            prompt_name: "query" or "document", whose prompt is put before each text.
            prompt_type: another name of `prompt_name`, which mteb uses.
            precision: fp32 gives the same vectors everywhere; bf16 and fp16 are faster and close to it; auto uses bf16 on
                hardware that is fast at it. None is `default_precision`: fp32, or auto for a model opened with `engine="auto"`.
            convert_to_numpy, convert_to_tensor: an array by default, a tensor, or a list of tensors if both are false.
            normalize_embeddings: give vectors unit norm, if the family does not do so by itself.
            device: move the encoder there first, as `to` does.
            options: options that only this family has, for example `sparse=True`.

        Raises ZooError for an unknown option, for a single text, a mapping, a set or a table, and for None among the inputs.
        """
        options = encoding.check_options(options, self._encode)
        precision = encoding.read_precision(self.default_precision if precision is None else precision)
        if device is not None:
            self.to(device)
        inputs = self._check_inputs(inputs)
        if prompt is not None:
            inputs = self._put_before(prompt, inputs)
        elif role := encoding.read_role(prompt_name, prompt_type, self.has_roles, self.spec.family):
            options["prompt_type"] = role

        def encode_together(items: Any) -> Any:
            return self._encode(items, show_progress=bool(show_progress_bar), precision=precision, **options)

        if batch_size is None:
            vectors = encode_together(inputs)
        else:
            vectors = encoding.encode_in_batches(encode_together, inputs, batch_size)
        if normalize_embeddings:
            vectors = encoding.normalize(vectors)
        if convert_to_tensor or not convert_to_numpy:
            vectors = encoding.convert_to_tensor(vectors, self.device)
        return vectors if convert_to_tensor or convert_to_numpy else list(vectors)

    def encode_query(self, inputs: Iterable[Any], **options: Any) -> Any:
        """`encode` with the prompt of queries, if the encoder has one; the options are those of `encode`."""
        return self._encode_role("query", inputs, options)

    def encode_document(self, inputs: Iterable[Any], **options: Any) -> Any:
        """`encode` with the prompt of documents, if the encoder has one; the options are those of `encode`."""
        return self._encode_role("document", inputs, options)

    def _encode_role(self, role: str, inputs: Iterable[Any], options: dict[str, Any]) -> Any:
        has_own = any(options.get(name) is not None for name in ("prompt", "prompt_name", "prompt_type"))
        if not has_own and self.has_roles:
            options = {**options, "prompt_type": role}
        return self.encode(inputs, **options)

    def stream(
        self,
        inputs: Iterable[Any],
        *,
        precision: str | None = None,
        prompt_name: str | None = None,
        prompt_type: str | None = None,
    ) -> Iterator[np.ndarray]:
        """Encode in blocks, in order. The memory does not grow with the length of `inputs`."""
        role = encoding.read_role(prompt_name, prompt_type, self.has_roles, self.spec.family)
        options = {} if role is None else {"prompt_type": role}
        precision = encoding.read_precision(self.default_precision if precision is None else precision)
        return self._stream(self._check_inputs(inputs), precision=precision, **options)

    @property
    def searches_by_tokens(self) -> bool:
        """Whether a search compares the sets of `encode_tokens` by MaxSim, and not the vectors of `encode`."""
        return False

    def encode_tokens(
        self, texts: Iterable[str], prompt_name: str | None = None, *, precision: str = "fp32", dtype: Any = "float32"
    ) -> Any:
        """Token vectors (t, d) of all texts, and the offsets (n + 1,) at which each text begins, if the family has them."""
        raise ZooError(
            f"the family {self.spec.family} has no vectors of tokens, but one vector for each text: use `encode`"
        )

    @property
    def has_roles(self) -> bool:
        """Whether queries and documents may be encoded differently, as `prompt_name` says."""
        return _takes_roles(type(self)._encode)

    def _check_inputs(self, inputs: Any) -> Any:
        """Return the inputs. Raises ZooError unless they are a list, and if this process cannot encode."""
        noun = "input" if self.accepts_mixed_inputs else self.modalities[0]
        single_types = (str, bytes) if noun in ("text", "vector") else (str, bytes, Path)
        input_checks.require_list(inputs, noun, single_types)
        uses_gpu = "torch" in sys.modules and self._moves and self.device.type == "cuda"
        if problem := forks.find_problem(uses_gpu):
            raise ZooError(problem)
        return inputs

    def _put_before(self, prompt: str, inputs: Iterable[Any]) -> Iterable[Any]:
        if self.modalities != ("text",):
            raise ZooError(
                f"prompt: the family {self.spec.family} does not read texts alone; give an instruction as a view, if it has one: "
                "encoder.view(instruction=…)"
            )
        return encoding.add_prompt(prompt, inputs)

    def _encode(self, inputs: Iterable[Any], *, show_progress: bool = False, precision: str = "fp32") -> Any:
        """The family's own part of `encode`. A family with prompts also takes `prompt_type`."""
        raise NotImplementedError

    def _stream(self, inputs: Iterable[Any], *, precision: str = "fp32") -> Iterator[np.ndarray]:
        """The family's own part of `stream`."""
        raise NotImplementedError

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        """Similarities (n, m) of the vectors `a` (n, …) and `b` (m, …): cosines, or negative Hamming distances of codes."""
        from zoo.ops import similarity

        return similarity.compute_similarities(self.similarity_fn_name, a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        """Similarities (n,) of each vector of `a` and the same vector of `b`."""
        from zoo.ops import similarity

        return similarity.compute_pairwise_similarities(self.similarity_fn_name, a, b)

    @property
    def device(self) -> torch.device:
        """The device that encodes."""
        import torch

        parameter = next(self.module.parameters(), None) if self._moves else None
        return torch.device("cpu") if parameter is None else parameter.device

    def to(self, device: Any) -> Self:
        """Move the encoder, and all views of it, to a device, for example "cuda". Raises ZooError if it cannot be used."""
        target = encoding.read_device(device)
        if target.type != "cpu" and (not self._moves or next(self.module.parameters(), None) is None):
            raise ZooError(f"device: {device!r}: the family {self.spec.family} encodes on the CPU; leave it out")
        if self._moves:
            self.module.to(target)
            self._forget_engines()
        return self

    def _forget_engines(self) -> None:
        """Drop copies of tensors that were made for encoding, because the encoder has moved or has learned."""

    def __repr__(self) -> str:
        view = "".join(f", {name}={value!r}" for name, value in self.view_options.items())
        return (
            f"<{self.spec.family} encoder {visible.escape_line(str(self.name))!r}: {'/'.join(self.modalities)} to {self.dim} "
            f"{'bits' if self.similarity_fn_name == 'hamming' else 'components'}, {self.similarity_fn_name}{view}>"
        )

    def view(self, **options: Any) -> Self:
        """A view with these options, which shares this encoder's tensors.

        Raises ZooError for an unknown option and for a value of the wrong type.
        """
        return self._make_view(self.spec.check_view(options))

    def _make_view(self, options: Mapping[str, Any]) -> Self:
        """A view with options of the right names and types. Raises ZooError for a value that this encoder does not have."""
        return copy.copy(self)

    def views_sharing_a_pass(self, views: Sequence[Mapping[str, Any]]) -> list[Self]:
        """One view for each set of options. A family may encode an input once for all of them.

        Use these for scores only: timings of such views say nothing.
        """
        return [self.view(**view) for view in views]

    def baseline(self) -> Encoder | None:
        """The encoder before training, for the baseline column of the report; None if its scores say nothing."""
        return None

    def evaluate_recognition(
        self, tables: Mapping[str, Dataset], metric: LabelMetric | None = None, answers: str = "classes"
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores of the task `recognition` by name, the main score first, and JSON-able details for the card's pictures.

        With distances between labels, scores of the answers that respect them are added; see `zoo.label_geometry`.
        """
        raise NotImplementedError

    def find_class_vectors(self) -> tuple[Sequence[str | int], np.ndarray] | None:
        """The classes of a family with classes of its own, and their vectors (classes, dim). Default: None."""
        return None

    def find_faults(self, rows: Dataset) -> list[Finding]:
        """Find faults of the training that only the family can see, from rows like those of the training. Default: nothing."""
        return []

    def as_float_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors from `encode` into (n, d) float32 for mteb's similarities and probes. Default: leave them as is."""
        return vectors

    @property
    def bytes_per_vector(self) -> int:
        """Storage of one encoded vector in bytes."""
        return self.dim * 4

    # -- steps after training --------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[Any, ...]:
        """The steps after training of `zoo.after`, in order. A view that cuts the encoder has none."""
        return self._fitted.choose(self.view_options)

    def attach_steps(self, steps: Sequence[Any]) -> None:
        """Use these steps, which were fitted on the vectors of the whole encoder. They are saved with it.

        Raises ZooError for anything but a list of fitted steps, and for a step that takes vectors of another size.
        """
        whole = self.view()
        self._fitted = FittedSteps(steps, whole.view_options, whole.dim)

    def codes(self, inputs: Iterable[Any], **options: Any) -> np.ndarray:
        """Packed codes (n, bytes) uint8 of documents, in the order of `inputs`. The options are those of `encode`.

        Raises ZooError if the encoder has no step for codes, and for a view that cuts it.
        """
        step = self.find_code_step()
        return step.encode(self.prepare_vectors(self.encode_document(inputs, **options)))  # type: ignore[no-any-return]

    def find_code_step(self) -> Any:
        """Return the step that turns vectors into codes.

        Raises ZooError if there is none, and for a view that cuts the encoder.
        """
        return self._fitted.find_codes(self.view_options)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The vectors (n, d) float32 that packed codes (n, bytes) uint8 stand for. Raises ZooError as `codes` does."""
        return self.find_code_step().decode(codes)  # type: ignore[no-any-return]

    def scores(self, queries: Iterable[Any], codes: np.ndarray, **options: Any) -> np.ndarray:
        """Scores (m, n) float32 of queries with packed codes (n, bytes) uint8. The options are those of `encode`.

        Queries are encoded first, as `encode_query` does; an array (m, dim) of float vectors is taken as it is. Raises ZooError
        as `codes` does.
        """
        step = self.find_code_step()
        is_encoded = getattr(queries, "ndim", 0) == 2 and "vector" not in self.modalities
        vectors = queries if is_encoded else self.encode_query(queries, **options)
        return step.score(self.prepare_vectors(vectors), codes)  # type: ignore[no-any-return]

    def prepare_vectors(self, vectors: Any) -> np.ndarray:
        """Vectors (n, dim) float32 as steps take them: with unit norm if the encoder compares by cosine."""
        return prepare_vectors(vectors, self.similarity_fn_name)

    # -- model folder ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the encoder as a model folder, which `zoo.from_pretrained` opens, and return its path.

        A folder that zoo wrote is replaced. Raises ZooError for another one that is not empty, which stays as it is.
        """
        from zoo.artefact import model_folder

        folder = Path(path)
        model_folder.require_replaceable(folder)
        with model_folder.explain_view(self.spec.family, self.view_options):
            return model_folder.save(self.as_exact(), folder)

    def save_pretrained(self, path: str | Path) -> Path:
        """`save`, under the name that it has in sentence-transformers."""
        return self.save(path)

    def as_exact(self) -> Self:
        """Return the encoder as it encodes without a choice of engines, which is how it is saved."""
        return self

    def write_weights(self, folder: Path) -> None:
        """Write weights (safetensors) and tokenizer into an empty `folder`.

        Also write modules.json if stock sentence-transformers can open the result. config.json, if written, is the
        backbone's own; the caller adds the `zoo` block.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, spec: Any, folder: Path, config: Mapping[str, Any]) -> Self:
        """Open what `write_weights` wrote. `config` is the `zoo` block of config.json.

        Raises ArtefactError for a missing, extra or mis-shaped tensor.
        """
        raise NotImplementedError

    def make_probes(self) -> list[Any]:
        """Inputs of every kind that `encode` takes, with which a saved folder is compared with this encoder."""
        texts = list(reopening.TEXTS) if "text" in self.modalities else []
        images = reopening.make_images() if "image" in self.modalities else []
        pairs = [{"image": images[0], "text": texts[0]}] if self.accepts_mixed_inputs and images and texts else []
        return [*texts, *images, *pairs]

    def make_canaries(self) -> list[canaries.Canary]:
        """Fixed inputs whose vectors a saved folder holds, for `zoo verify`. None if `encode` does not work yet."""
        if not self.is_usable():
            return []
        texts = canaries.list_texts(has_roles=self.has_roles) if "text" in self.modalities else []
        return [*texts, *(canaries.list_images() if "image" in self.modalities else [])]

    def list_token_ids(self, texts: Sequence[str]) -> Sequence[Sequence[int]] | None:
        """The tokens of each text, or None for a family without a tokenizer."""
        return None

    def find_stock_folder(self, folder: Path) -> Path | None:
        """The folder that stock sentence-transformers opens, or None if it cannot open what `save` wrote."""
        return folder if (folder / "modules.json").exists() else None

    def is_read_by_stock(self, text: str) -> bool:
        """Whether stock sentence-transformers reads this text as `encode` does."""
        return True

    def check_saved(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Open what `save` wrote, and raise ArtefactError unless it gives this encoder's tokens and vectors.

        `config` is the `zoo` block of config.json.
        """
        if self.is_usable():
            reopening.check(self, folder, config)

    def make_graph(self) -> Graph:
        """Return the network of this view for `zoo export --to onnx`. Raises ZooError for a view that has none."""
        raise ZooError(
            f"the family {self.spec.family} cannot be exported as a graph: its vectors are not one pass of a network"
        )

    def is_usable(self) -> bool:
        """Whether `encode` works; an encoder that learns its vocabulary or its input format in training needs that first."""
        return True

    def extra_config(self) -> dict[str, Any]:
        """JSON-able state that `load` needs besides spec and tensors. It becomes part of the `zoo` block."""
        return {}

    def card_facts(self) -> dict[str, Any]:
        """Values that the family's own card template uses.

        The fact `settings` holds what was used where the recipe leaves a setting open, by its dotted path.
        """
        return {}

    def push_to_hub(self, repo: str, *, private: bool = False) -> str:
        """Save and publish in one commit; return the URL of the commit. Raises HubError."""
        from zoo.artefact import manifest, model_folder
        from zoo.card import render
        from zoo.hub import push

        with tempfile.TemporaryDirectory() as parent:
            folder = model_folder.save(self.as_exact(), Path(parent) / self.name)
            render.write_card(folder, type(self.spec))
            manifest.write(folder)
            return push.push(folder, repo, private=private).url
