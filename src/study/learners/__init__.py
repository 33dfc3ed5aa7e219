"""The learning algorithms A: one file each, one signature.

A learner is frozen data (its hyper-parameters) with one method,

    fit_predict(data, members (k, n) bool, seeds [k]) -> train_labels (k, n), test_labels (k, n_test)      int16

which trains one model for each row of ``members`` on the examples it marks, with the randomness of the matching
`study.subsets.TrialSeed`, and labels every example of both splits in canonical order. The k models may be trained at once
or one by one; the result must not depend on which models share a call. A model that diverged labels everything -1.

This package comes before `study.params` in the order of imports, so that ``params.yaml`` can be checked against the
hyper-parameters of the learner it names as soon as it is read.
"""

from typing import Annotated

from pydantic import Field

from study.learners.convnet import ConvNet
from study.learners.frozen_features import FrozenFeatures
from study.learners.large_mlp import LargeMlp
from study.learners.mlp import Mlp
from study.learners.nearest_neighbour import NearestNeighbour
from study.learners.own_network import OwnNetwork

Learner = Annotated[Mlp | LargeMlp | NearestNeighbour | FrozenFeatures | ConvNet | OwnNetwork, Field(discriminator="name")]

__all__ = ["ConvNet", "FrozenFeatures", "LargeMlp", "Learner", "Mlp", "NearestNeighbour", "OwnNetwork"]
