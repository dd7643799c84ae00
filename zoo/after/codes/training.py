"""How heads and coders are trained: by pairs of a query and its answer, and by the exact rankings of float vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from zoo.after.codes.coder import Coder, Head
from zoo.after.codes.spec import Spec
from zoo.ops import distillation, exact_search, losses
from zoo.ops.random_state import step_generator

Numbers = npt.NDArray[np.int64]

NEAREST = 200  # documents of a query, of which candidates are drawn
CANDIDATES = 10  # that always come, the nearest; as many are drawn from the rest
RANKED_QUERIES = 4096  # whose nearest documents are searched
PAIR_BATCH = 128
PAIR_LEARNING_RATE = 3e-4
HARD_NEGATIVES = 5


@dataclass(frozen=True)
class Ranking:
    """Queries and their nearest documents by the float vectors that a coder must follow.

    Attributes:
        queries, documents: (m, dim) and (n, dim) float32 vectors, what a coder reads.
        targets: (m, d) and (n, d) unit vectors whose products are the teacher's scores.
        nearest: (m, top) numbers of documents, the best first.
        old_documents: (n, d) float32 decoded vectors of an older model, or None.
    """

    queries: torch.Tensor
    documents: torch.Tensor
    targets: tuple[torch.Tensor, torch.Tensor]
    nearest: Numbers
    old_documents: torch.Tensor | None = None


def rank_documents(
    queries: torch.Tensor,
    documents: torch.Tensor,
    transform: Callable[[torch.Tensor], torch.Tensor],
    old_documents: torch.Tensor | None = None,
) -> Ranking:
    """Search the nearest documents of each query exactly. `transform` gives the unit vectors that are compared."""
    with torch.no_grad():
        targets = transform(queries), transform(documents)
    nearest = exact_search.search(targets[0].numpy(), targets[1].numpy(), NEAREST)[1]
    return Ranking(queries, documents, targets, nearest, old_documents)


def distil(coder: Coder, ranking: Ranking, spec: Spec, seed: int) -> None:
    """Train a coder so that scores of decoded documents rank as those of the float vectors do.

    The loss of a query is the divergence of two softmaxes over the candidates of the whole batch: hard ones, because the nearest
    documents of each query are among them. A head is trained along if it requires gradients. With old documents, the same
    loss is added for their scores. Source of the loss: ListNet as in Xiao et al. 2022, arXiv 2204.00185, section 3.
    """

    def compute_loss(step: int) -> torch.Tensor:
        generator = step_generator(seed, step)
        chosen = torch.randint(len(ranking.queries), (spec.batch_size,), generator=generator)
        numbers = torch.from_numpy(_draw_candidates(ranking.nearest[chosen.numpy()], generator))
        teacher = ranking.targets[0][chosen] @ ranking.targets[1][numbers].T
        queries = ranking.queries[chosen]
        left = coder(queries) if spec.symmetric else coder.transform(queries)
        scores = left @ coder(ranking.documents[numbers]).T
        loss = distillation.compute_kl_loss(scores, teacher, spec.temperature)
        if ranking.old_documents is not None:
            scores = coder.transform(queries) @ ranking.old_documents[numbers].T
            loss = loss + distillation.compute_kl_loss(scores, teacher, spec.temperature)
        return loss

    _minimise(compute_loss, coder.parameters(), spec.steps, spec.learning_rate)


def _draw_candidates(nearest: Numbers, generator: torch.Generator) -> Numbers:
    """Return the distinct numbers of the first candidates of each row and of as many others, drawn from the rest."""
    rest = nearest.shape[1] - CANDIDATES
    if rest <= 0:
        return np.unique(nearest)
    places = torch.randint(rest, (len(nearest), CANDIDATES), generator=generator).numpy() + CANDIDATES
    return np.unique(np.concatenate([nearest[:, :CANDIDATES], np.take_along_axis(nearest, places, 1)], axis=1))


def train_head(
    head: Head,
    queries: torch.Tensor,
    documents: torch.Tensor,
    answers: Numbers,
    spec: Spec,
    seed: int,
    old_documents: torch.Tensor | None = None,
) -> None:
    """Train a head by a contrastive loss with the hardest negatives of the batch, in both directions.

    A document that answers a query is never its negative. With old documents, the loss of the queries against the answers' old
    vectors is added, so that both kinds can be searched (backward-compatible training).
    Source: Gan et al. 2023, arXiv 2302.08714, sections 3.2 and 3.3: five hardest negatives, temperature .05.
    """
    keys = np.sort(answers[:, 0] * len(documents) + answers[:, 1])

    def compute_loss(step: int) -> torch.Tensor:
        chosen = torch.randint(len(answers), (PAIR_BATCH,), generator=step_generator(seed, step)).numpy()
        pairs = answers[chosen]
        is_answer = torch.from_numpy(np.isin(pairs[:, :1] * len(documents) + pairs[None, :, 1], keys))
        left = head(torch.nn.functional.normalize(queries[pairs[:, 0]], dim=1))
        right = head(torch.nn.functional.normalize(documents[pairs[:, 1]], dim=1))
        sides = [right] if old_documents is None else [right, old_documents[pairs[:, 1]]]
        parts = []
        for side in sides:
            for anchors, candidates, mask in ((left, side, is_answer), (side, left, is_answer.T)):
                easy = mask_easy_negatives(anchors.detach() @ candidates.detach().T, mask, HARD_NEGATIVES)
                parts.append(losses.compute_contrastive_loss(anchors, candidates, 1 / spec.temperature, easy))
        return torch.stack(parts).sum()

    _minimise(compute_loss, head.parameters(), spec.steps, PAIR_LEARNING_RATE)


def mask_easy_negatives(scores: torch.Tensor, is_answer: torch.Tensor, count: int) -> torch.Tensor:
    """Return a mask (n, n) that is false for the `count` negatives of each row with the highest scores.

    It is true for every other negative and for answers, which count as negatives in no case.
    """
    negatives = scores.masked_fill(is_answer, -torch.inf)
    hardest = negatives.topk(min(count, scores.shape[1]), dim=1).indices
    return torch.ones_like(is_answer).scatter_(1, hardest, False) | is_answer


def _minimise(
    compute_loss: Callable[[int], torch.Tensor],
    parameters: Iterable[torch.nn.Parameter],
    steps: int,
    learning_rate: float,
) -> None:
    """Run Adam with a learning rate that falls to 0."""
    optimiser = torch.optim.Adam([part for part in parameters if part.requires_grad], lr=learning_rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        optimiser.zero_grad()
        compute_loss(step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
