"""`frozen_features`: linear heads on the penultimate features of one network trained on all examples.

The experiment of the talk's section "In which layer does memorization happen?": the representation has seen every
example, each head only its subset, so what these models memorize, the last layer memorized. The representation is any
learner with penultimate features, trained from its own seed; the heads are multilayer perceptrons without hidden layers.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from study.closed import Closed
from study.data import Data
from study.learners.convnet import ConvNet
from study.learners.large_mlp import LargeMlp
from study.learners.mlp import Mlp
from study.subsets import TrialSeed

Representation = Annotated[Mlp | LargeMlp | ConvNet, Field(discriminator="name")]
Head = Annotated[Mlp | LargeMlp, Field(discriminator="name")]


class FrozenFeatures(Closed):
    """Hyper-parameters of the representation and of the head, and the seed of the representation."""

    name: Literal["frozen_features"] = "frozen_features"
    representation: Representation
    representation_seed: NonNegativeInt
    head: Head

    @model_validator(mode="after")
    def _one_hidden_layer_below_a_linear_head(self) -> Self:
        hidden = getattr(self.representation, "widths", True)  # a convolutional network has no list of widths
        if self.head.widths or not hidden:
            raise ValueError(
                f"head.widths is {self.head.widths} and representation.widths is {hidden}; the head must be linear (no "
                "widths) and the representation needs a hidden layer"
            )
        return self

    @property
    def models_at_once(self) -> PositiveInt:
        return self.head.models_at_once

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Train one head for each row of ``members (k, n)``; shapes and errors as in `Mlp.fit_predict`."""
        return self.head.fit_predict(self.features(data), members, seeds)

    def features(self, data: Data) -> Data:
        """The data set with each input replaced by its penultimate features, float32 ``(n, widths[-1])``."""
        return _features(self.representation, self.representation_seed, _Hashable(data))


class _Hashable:
    """A data set that `lru_cache` can tell from another by its order hash."""

    def __init__(self, data: Data):
        self.data = data

    def __hash__(self) -> int:
        return hash(self.data.order_hash)

    def __eq__(self, other) -> bool:
        return self.data.order_hash == other.data.order_hash


@lru_cache(maxsize=4)
def _features(representation: Representation, seed: int, source: _Hashable) -> Data:
    data = source.data
    everyone, seeds = np.ones((1, data.n), dtype=bool), [TrialSeed(seed, 0)]
    networks = representation.fit(data, everyone, seeds)
    x_train, x_test = (networks.features(x)[0].numpy() for x in representation.inputs(data))
    return replace(data, name=f"{data.name} features", x_train=x_train, x_test=x_test)
