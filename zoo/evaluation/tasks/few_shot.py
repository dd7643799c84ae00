"""`task: few-shot`: the nearest mean of a few labelled rows is the answer, over many small sets of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.task import HITS, MeasuredTask, Scores
from zoo.schema import Positive

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder
    from zoo.metrics.few_shot import Episodes


class FewShot(MeasuredTask):
    """Inputs of classes, for any encoder and without a training. Main score: accuracy at the largest number of shots.

    An episode draws `ways` classes. The mean of `shots` labelled rows stands for a class, and the nearest mean is the answer for
    `queries` other rows of it. All encoders get the same episodes. Classes that the training has not seen say most.
    """

    roles = {"data": {"label": "label"}}
    optional = {"data": {"text": "text", "image": "image", "vector": "vector"}}
    outcome_unit = "episodes"

    task: Literal["few-shot"]
    data: Data = Field(description="Labelled inputs. Classes with fewer rows than shots and queries take no part.")
    ways: Annotated[int, Field(ge=2)] = Field(5, description="Classes of an episode.")
    shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (1, 5), description="Labelled rows of each class; each number is scored. The largest one gives the main score."
    )
    queries: Positive = Field(15, description="Rows of each class that are classified in an episode.")
    episodes: Annotated[int, Field(ge=2)] = Field(600, description="Number of episodes.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(42, description="Seed of the episodes.")

    def check_tables(self, tables: Mapping[str, Table]) -> None:
        """Raises DataError if too few classes have enough rows."""
        self._draw(tables["data"].rows)

    def compute_chance(self, tables: Mapping[str, Table]) -> float:
        """One of the classes of an episode, guessed."""
        return 1 / self.ways

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """Accuracy with its interval, and the same for each number of shots. Each row is encoded once."""
        from zoo.metrics import few_shot
        from zoo.metrics.encoded_rows import encode_rows

        episodes = self._draw(rows["data"])
        numbers = episodes.list_rows()
        vectors = encode_rows(encoder, rows["data"].select(numbers))
        episodes = few_shot.renumber(episodes, numbers)
        results = [few_shot.measure_episodes(vectors, episodes, shots) for shots in sorted(set(self.shots))]
        main = results[-1]
        scores = {"accuracy": main.accuracy, "accuracy_low": main.low, "accuracy_high": main.high}
        for result in results:
            name = f"accuracy_{result.shots}_shot"
            scores |= {name: result.accuracy, f"{name}_low": result.low, f"{name}_high": result.high}
        return scores, {HITS: main.accuracies.tolist(), "ways": self.ways, "shots": main.shots}

    def _draw(self, rows: Dataset) -> Episodes:
        from zoo.metrics import few_shot

        sizes = few_shot.Sizes(self.ways, self.shots, self.queries)
        return few_shot.draw_episodes(rows["label"], sizes, episodes=self.episodes, seed=self.seed)
