"""``params.yaml`` as frozen, validated data.

Every number of the study stands in that file, one section a stage. An unknown key, setting or chapter is an error that
names the valid ones; equality and `Setting.fingerprint` follow from the fields.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from study.closed import Closed
from study.data import DATASETS, Data
from study.learners import Learner, Mlp

Fraction = Annotated[float, Field(gt=0, lt=1)]
Threshold = Annotated[float, Field(ge=0, le=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]
AtLeastFour = Annotated[int, Field(ge=4)]
EvenSize = Annotated[int, Field(ge=4, multiple_of=2)]


class Setting(Closed):
    """A data set × a learner with its hyper-parameters × a subset ratio, trained ``trials`` times."""

    data: str
    learner: Learner
    ratio: Fraction
    seed: NonNegativeInt
    trials: PositiveInt
    revision: PositiveInt

    @field_validator("data")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DATASETS:
            raise ValueError(f"unknown data set {name!r}; valid data sets: {', '.join(DATASETS)}")
        return name

    def fingerprint(self, data: Data) -> str:
        """Identifies all that changes a prediction: the data's order, learner, hyper-parameters, ratio, seed, revision.

        The number of trials is left out, for more of them change no row; so are how many models train at once
        and the device that trains them.
        """
        fields = self.model_dump(mode="json", exclude={"trials"}) | {"order_hash": data.order_hash}
        return _digest(json.dumps(_without(fields, "models_at_once", "device"), sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _without(tree, *keys: str):
    return {k: _without(v, *keys) for k, v in tree.items() if k not in keys} if isinstance(tree, dict) else tree


class Estimate(Closed):
    """Stage `estimate`: what is selected and reported from a prediction file."""

    mem_threshold: Threshold
    infl_threshold: Threshold
    mem_floor: Threshold
    infl_floor: Threshold
    pairs_kept: PositiveInt
    reliability_splits: PositiveInt
    null_permutations: PositiveInt
    settling_trials: tuple[AtLeastFour, ...]
    settling_repeats: PositiveInt
    seed: NonNegativeInt


class LeaveOneOut(Closed):
    """Stage `leave_one_out`: exact ground truth for a few examples across the range of memorization."""

    setting: str
    examples: Annotated[int, Field(ge=2)]
    models: PositiveInt
    subset_models: PositiveInt
    bootstrap: Annotated[int, Field(ge=2)]
    permutations: Annotated[int, Field(ge=2)]
    seed: NonNegativeInt


class Removal(Closed):
    """Stage `removal` of a setting: fresh models without the memorized examples, and without as many random ones."""

    thresholds: tuple[Threshold, ...]
    random_shares: tuple[Fraction, ...]
    repeats: Annotated[int, Field(ge=2)]
    seed: NonNegativeInt


class Fitting(Closed):
    """Stage `fitting`: digits with true, partly random and random labels, fitted by a network and by a linear model.

    ``corruption`` ascends from 0 to 1; ``shorter`` lists epochs of further trainings, each less than those of ``network``.
    """

    ratio: Fraction
    corruption: tuple[Threshold, ...]
    repeats: Annotated[int, Field(ge=2)]
    network: Mlp
    shorter: tuple[PositiveInt, ...]
    fitted: Fraction
    penalty: PositiveFloat
    seed: NonNegativeInt

    @field_validator("corruption")
    @classmethod
    def _from_true_to_random(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if sorted(set(levels)) != list(levels) or len(levels) < 2 or (levels[0], levels[-1]) != (0, 1):
            raise ValueError("levels of corruption must ascend from 0 to 1")
        return levels

    @model_validator(mode="after")
    def _shorter_than_the_network(self):
        if any(epochs >= self.network.epochs for epochs in self.shorter):
            raise ValueError(f"each entry of shorter must be below the {self.network.epochs} epochs of network")
        return self

    @property
    def budgets(self) -> list[int]:
        """Epochs of all trainings, ascending."""
        return sorted({*self.shorter, self.network.epochs})


class LongTail(Closed):
    """Stage `long_tail`: Theorem 2.3 of Feldman (2020) simulated in the discrete case."""

    n: EvenSize
    n_large: EvenSize
    labels: Annotated[int, Field(ge=2, le=32767)]
    control_ratio: PositiveInt
    head_points: PositiveInt
    tail_near: Fraction
    tail_far: Fraction
    flips: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
    draws: AtLeastTwo
    prior_draws: AtLeastTwo
    counts_reported: AtLeastTwo
    example_points: Annotated[int, Field(ge=1500)]
    example_draws: AtLeastTwo
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.head_points >= self.n:
            raise ValueError(f"head_points is {self.head_points}; it must be smaller than n = {self.n}")
        if self.counts_reported > min(self.n, self.n_large):
            raise ValueError(
                f"counts_reported is {self.counts_reported}; no point occurs more often than the sample has points"
            )
        return self


class Localization(Closed):
    """Stage `localization`: linear heads on frozen features that have or have not seen the examples, and full training."""

    full: str
    linear: str
    networks: Annotated[int, Field(ge=2)]
    representations: Annotated[int, Field(ge=2)]
    heads: PositiveInt
    bootstrap: Annotated[int, Field(ge=2)]
    seed: NonNegativeInt


class FrozenLayers(Closed):
    """Stage `frozen_layers` of a setting: the first hidden layers frozen, the others trained on random subsets."""

    representations: PositiveInt
    heads: AtLeastTwo
    seed: NonNegativeInt


class Scaling(Closed):
    """Stage `scaling`: what the study costs, measured small, and what ``setting`` would cost on ImageNet.

    ``n``, ``n_test`` and ``classes`` are ImageNet's; ``timed`` names the settings whose models are timed on their own data.
    """

    setting: str
    n: PositiveInt
    n_test: PositiveInt
    classes: PositiveInt
    timed: tuple[str, ...]
    timed_batch: PositiveInt
    repeats: PositiveInt
    accuracies: Annotated[tuple[Threshold, ...], Field(min_length=1)]
    file_trials: PositiveInt
    simulated_classes: Annotated[tuple[PositiveInt, ...], Field(min_length=3)]
    memorized: Threshold
    seed: NonNegativeInt


class Consistency(Closed):
    """Stage `consistency`: which examples and pairs different learners of one data set have in common.

    ``settings`` lists, by data set, the settings to compare; the first one is drawn against the others.
    """

    settings: Annotated[dict[str, Annotated[tuple[str, ...], Field(min_length=1)]], Field(min_length=1)]
    mem_thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]
    infl_thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]
    replicates: AtLeastTwo
    shuffles: PositiveInt
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name, listed in self.settings.items():
            if len(set(listed)) < len(listed):
                raise ValueError(f"settings.{name} names a setting twice: {', '.join(listed)}")
        return self


class Published(Closed):
    """Stage `published`: the pairs that Feldman & Zhang released, and what our estimates say of them.

    ``bands`` are edges of influence, ascending; ``settings`` the settings on CIFAR-100 whose influence is taken over the
    released pairs; ``source`` is ``released`` or ``made_up``, which stands in where the files cannot be had.
    """

    source: Literal["released", "made_up"]
    settings: tuple[str, ...]
    bands: Annotated[tuple[Threshold, ...], Field(min_length=2)]
    controls: PositiveInt
    groups: AtLeastTwo
    permutations: AtLeastTwo
    seed: NonNegativeInt

    @field_validator("bands")
    @classmethod
    def _ascending(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if sorted(set(edges)) != list(edges):
            raise ValueError("edges of bands must ascend")
        return edges


Scalar = bool | int | float | str


class Params(Closed):
    """The whole of ``params.yaml``; ``chapters`` holds one table of scalars for each chapter's parameters cell."""

    settings: dict[str, Setting]
    estimate: Estimate
    leave_one_out: LeaveOneOut
    removal: dict[str, Removal]
    fitting: Fitting
    long_tail: LongTail
    localization: Localization
    frozen_layers: dict[str, FrozenLayers]
    scaling: Scaling
    consistency: Consistency
    published: Published
    chapters: dict[str, dict[str, Scalar]]

    def setting(self, name: str) -> Setting:
        """One setting; raises ``ValueError`` that lists the valid names."""
        if name not in self.settings:
            raise ValueError(f"unknown setting {name!r}; valid settings: {', '.join(self.settings)}")
        return self.settings[name]

    def chapter(self, name: str) -> dict[str, Scalar]:
        """The parameters of one chapter; raises ``ValueError`` that lists the valid names."""
        if name not in self.chapters:
            raise ValueError(f"unknown chapter {name!r}; valid chapters: {', '.join(self.chapters)}")
        return self.chapters[name]

    def fingerprint(self, section: str, part: str | None = None) -> str:
        """Identifies the parameters of a section, or of one part of it, such as a chapter; empty if there are none."""
        chosen = self.model_dump(mode="json", include={section}).get(section, {})
        return _digest(json.dumps(chosen[part] if part else chosen, sort_keys=True))


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check ``params.yaml``.

    Raises ``ValueError`` that names each wrong key, its value, and the keys that are valid in its place.
    """
    tree = yaml.safe_load(Path(path).read_text())
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{path} is not valid:\n" + "\n".join(map(_explain, error.errors()))) from error


def _explain(problem: dict) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    return f"  {where}: {problem['msg']}; found {problem['input']!r}"
