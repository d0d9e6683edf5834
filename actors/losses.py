"""InfoNCE with a pull towards the frozen base, or of queries alone, and rehearsal, as losses of sentence-transformers.

Invariants: ``base`` holds the frozen model's unit vectors. Where both sides learn, ``labels`` are its rows, one for each positive
document, and the pull is ``weight * mean(1 - cos(document, its base vector))``; on unit vectors this is half the squared distance.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
from torch import Tensor

from actors.core.batches import REHEARSED
from configs.schema import EncoderConfig

_PARTS = 4


class AnchoredInfoNCE(MultipleNegativesRankingLoss):
    """The whole batch at once: the fastest where its activations fit."""

    def __init__(self, model: SentenceTransformer, scale: float, base: Tensor, weight: float) -> None:
        """``base``: float32 [n, d]."""
        super().__init__(model, scale=scale)
        self.base, self.weight = base, weight

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        return self.compute_loss_from_embeddings([_embed(self.model, features) for features in sentence_features], labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """As the base class, plus the pull on the positives (``embeddings[1]``)."""
        embeddings = [e.float() for e in embeddings]
        loss: Tensor = super().compute_loss_from_embeddings(embeddings, labels)
        return loss + self.weight * _pull(embeddings[1], self.base, labels)


class CachedAnchoredInfoNCE(CachedMultipleNegativesRankingLoss):
    """In chunks with gradient caching (2101.06983): memory of one chunk, one more forward pass."""

    def __init__(self, model: SentenceTransformer, scale: float, base: Tensor, weight: float, pairs_per_chunk: int) -> None:
        """``base``: float32 [n, d]."""
        super().__init__(model, scale=scale, mini_batch_size=pairs_per_chunk)
        self.base, self.weight = base, weight

    def calculate_loss(self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False) -> Tensor:
        """As the base class, plus the pull on the positives (``reps[1]``)."""
        loss: Tensor = super().calculate_loss(reps, labels, with_backward=with_backward)
        if labels is None or not self.weight:
            return loss
        pull = self.weight * _pull(torch.cat(reps[1]).float(), self.base, labels)
        if with_backward:
            pull.backward()
            pull = pull.detach()
        return loss + pull


class CatalogInfoNCE(torch.nn.Module):
    """InfoNCE of anchors alone, over the whole catalog: one forward pass of short texts, and every tool a negative.

    As a query encoder is fine-tuned over an index that stays (DensePhrases, 2012.12624, section 4.3).
    """

    def __init__(
        self, model: SentenceTransformer, scale: float, base: Tensor, positives: Tensor, never: Sequence[Sequence[int]]
    ) -> None:
        """``labels`` will number training rows: ``positives`` [rows] are theirs in ``base`` [n, d], ``never`` other right ones."""
        super().__init__()
        self.model, self.scale, self.base, self.positives, self.never = model, scale, base, positives, never

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        anchors = torch.nn.functional.normalize(_embed(self.model, next(iter(sentence_features))).float(), dim=-1)
        scores = self.scale * anchors @ self.base.to(anchors.device).T
        right = torch.zeros(scores.shape, dtype=torch.bool)
        for row, label in enumerate(labels.tolist()):
            right[row, list(self.never[label])] = True
        masked = scores.masked_fill(right.to(scores.device), -torch.inf)
        return torch.nn.functional.cross_entropy(masked, self.positives.to(labels.device)[labels].to(scores.device))


class Rehearsed(torch.nn.Module):
    """A loss, and a pull that holds texts of any kind where the frozen model has them (pseudo-rehearsal: Robins, 1995).

    InfoNCE says nothing of queries unlike those it trains on, and moves them all the same.
    """

    def __init__(
        self,
        loss: torch.nn.Module,
        model: SentenceTransformer,
        texts: Sequence[str],
        base: Tensor,
        config: EncoderConfig,
        seed: int,
    ) -> None:
        """``base``: the frozen model's unit vectors of ``texts``, float32 [len(texts), d]. Equal seeds draw equal texts."""
        super().__init__()
        self.loss, self.model, self.texts, self.base, self.config = loss, model, texts, base, config
        self._rng, self._rows = random.Random(seed), list[int]()

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss, a scalar."""
        loss: Tensor = self.loss(sentence_features, labels)
        rows = self._draw(min(REHEARSED, len(self.texts)))
        features = self.model.preprocess([self.texts[row] for row in rows], max_length=self.config.query_tokens)
        features = {key: v.to(loss.device) if isinstance(v, Tensor) else v for key, v in features.items()}
        held = self.model(features)["sentence_embedding"].float()
        return loss + self.config.rehearsal_weight * _pull(held, self.base, torch.tensor(rows))

    def _draw(self, count: int) -> list[int]:
        """Rows of ``texts``; none twice in one pass."""
        if len(self._rows) < count:
            self._rows = self._rng.sample(range(len(self.texts)), len(self.texts))
        drawn, self._rows = self._rows[:count], self._rows[count:]
        return drawn


def _pull(vectors: Tensor, base: Tensor, rows: Tensor) -> Tensor:
    """How far ``vectors`` are from the given rows of ``base``."""
    if not len(base):
        return vectors.new_zeros(())
    return (1.0 - torch.nn.functional.cosine_similarity(vectors, base[rows.to(base.device)].to(vectors.device))).mean()


def _embed(model: Any, features: dict[str, Any]) -> Tensor:
    """Embed in parts of like length: tool documents vary fourfold, and padding costs as much as text."""
    mask = features["attention_mask"].bool()
    order = torch.argsort(mask.sum(dim=1), stable=True)
    parts = []
    for rows in order.chunk(_PARTS):
        columns = mask[rows].any(dim=0)
        part = {
            key: value[rows][:, columns] if isinstance(value, Tensor) and value.shape == mask.shape else value
            for key, value in features.items()
        }
        parts.append(model(part)["sentence_embedding"])
    return torch.cat(parts)[torch.argsort(order)]
