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
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from study.closed import Closed
from study.data import DATASETS, Data, maker
from study.learners import LargeMlp, Learner, Mlp
from study.learners.convnet import Compact
from study.theory.private_training import PrivateMlp

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
        maker(name)
        return name

    def fingerprint(self, data: Data) -> str:
        """Identifies all that changes a prediction: the data's order, learner, hyper-parameters, ratio, seed, revision.

        The number of trials is left out, for more of them change no row; so are how many models train at once
        and the device that trains them.
        """
        fields = self.model_dump(mode="json", exclude={"trials"}) | {"order_hash": data.order_hash}
        return _digest(json.dumps(telling(fields), sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def telling(tree):
    """A setting's fields, as JSON has them, without those that change no prediction."""
    silent = ("models_at_once", "device")
    return {key: telling(value) for key, value in tree.items() if key not in silent} if isinstance(tree, dict) else tree


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


class GrowingWorlds(Closed):
    """Worlds that grow with the sample: sizes n, and what is fixed in each of them."""

    sizes: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=2)]
    fixed_points: AtLeastTwo
    exponent: Annotated[float, Field(gt=1)]
    control_ratio: AtLeastTwo
    head_points: PositiveInt
    tail_far: Fraction
    draws: AtLeastTwo

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        least = max(self.head_points + 1, 2 * self.control_ratio)
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < least:
            raise ValueError(
                f"sizes are {self.sizes}; they must ascend from at least {least}, so that each world has a tail"
            )
        return self


class MeasuredPriors(Closed):
    """Coarse codes of pictures as a discrete world; of a data set at most ``examples`` pictures, the first ones."""

    data: Annotated[tuple[Literal["digits", "mnist"], ...], Field(min_length=1)]
    examples: AtLeastFour
    sides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    level: Fraction
    repeats: AtLeastTwo
    longest: AtLeastTwo


class Mixtures(Closed):
    """Gaussian sub-populations under Zipf's law, and six learners on samples of them at every noise."""

    points: AtLeastTwo
    n: AtLeastTwo
    labels: AtLeastTwo
    dimension: PositiveInt
    fresh: PositiveInt
    noises: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=2)]
    worlds: AtLeastTwo
    prior_draws: AtLeastTwo
    penalty: PositiveFloat
    network: Mlp
    stopped: PositiveInt
    network_seed: NonNegativeInt

    @model_validator(mode="after")
    def _stopped_before_the_end(self) -> Self:
        if self.stopped >= self.network.epochs:
            raise ValueError(f"stopped is {self.stopped}; it must be below the {self.network.epochs} epochs of network")
        return self


class Tails(Closed):
    """Stage `tails`: the price of a singleton at growing sizes, under measured priors, and in mixtures."""

    growth: GrowingWorlds
    measured: MeasuredPriors
    mixtures: Mixtures
    seed: NonNegativeInt


class SubpopulationsOf(Closed):
    """Of one setting: pairs of networks, and how many training examples are scored and tests put beside them, at most."""

    repeats: PositiveInt
    examples: AtLeastFour
    tests: AtLeastTwo


class Subpopulations(Closed):
    """Stage `subpopulations`: clusters of features against memorization.

    ``clusters`` of each class ascend; ``main_linkage`` and ``main_clusters`` are the ones that the summary reports.
    """

    settings: Annotated[dict[str, SubpopulationsOf], Field(min_length=1)]
    linkages: Annotated[tuple[Literal["average", "complete", "single", "ward"], ...], Field(min_length=1)]
    clusters: Annotated[tuple[AtLeastTwo, ...], Field(min_length=1)]
    main_linkage: str
    main_clusters: PositiveInt
    bands: AtLeastTwo
    permutations: AtLeastTwo
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _main_is_computed(self) -> Self:
        if self.main_linkage not in self.linkages or self.main_clusters not in self.clusters:
            raise ValueError(
                f"main_linkage is {self.main_linkage!r} and main_clusters {self.main_clusters}; they must be among "
                f"{', '.join(self.linkages)} and {', '.join(map(str, self.clusters))}"
            )
        return self


class Privacy(Closed):
    """Stage `privacy`: memorization under private training, and randomised response, beside what privacy allows.

    ``models`` names the data sets and how many networks each condition gets; ``epsilons`` descend.
    """

    network: PrivateMlp
    models: Annotated[dict[Literal["digits", "longtail"], Annotated[int, Field(ge=8)]], Field(min_length=1)]
    plain_learning_rates: dict[Literal["digits", "longtail"], PositiveFloat]
    epsilons: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)]
    delta: Fraction
    tail: PositiveInt
    mem_threshold: Threshold
    infl_threshold: Threshold
    head_count: AtLeastTwo
    copies_of: Literal["digits", "longtail"]
    copies: Annotated[tuple[PositiveInt, ...], Field(min_length=2)]
    copies_epsilon: PositiveFloat
    copies_models: Annotated[int, Field(ge=8)]
    response_runs: PositiveInt
    response_delta: Fraction
    worst_runs: PositiveInt
    doubt: Fraction
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if list(self.epsilons) != sorted(set(self.epsilons), reverse=True):
            raise ValueError(f"epsilons must descend, found {list(self.epsilons)}")
        if list(self.copies) != sorted(set(self.copies)):
            raise ValueError(f"copies must ascend, found {list(self.copies)}")
        if self.copies_of not in self.models:
            raise ValueError(f"copies_of is {self.copies_of}; models has {', '.join(self.models)}")
        if self.plain_learning_rates.keys() != self.models.keys():
            rates, models = ", ".join(self.plain_learning_rates), ", ".join(self.models)
            raise ValueError(f"plain_learning_rates has {rates}; models has {models}")
        return self


class Capacity(Closed):
    """Stage `capacity`: ReLU networks with about sqrt(N) units that fit N points (Yun, Sra and Jadbabaie, 2019)."""

    points: Annotated[tuple[AtLeastFour, ...], Field(min_length=1)]
    dimension: AtLeastTwo
    pictures: tuple[str, ...]
    pictures_fitted: AtLeastFour
    directions: PositiveInt
    bits: Annotated[tuple[Annotated[int, Field(ge=1, le=53)], ...], Field(min_length=1)]
    control_points: AtLeastFour
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    drawn: PositiveInt
    trained_points: AtLeastFour
    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    steps: PositiveInt
    repeats: PositiveInt
    residual_points: AtLeastFour
    residual_dimension: AtLeastTwo
    blocks: PositiveInt
    jitter: PositiveFloat
    near_points: AtLeastTwo
    near_dimension: AtLeastTwo
    near_width: PositiveInt
    minima: AtLeastTwo
    distances: Annotated[tuple[Fraction, ...], Field(min_length=3)]
    epochs: tuple[PositiveInt, ...]
    seed: NonNegativeInt

    @field_validator("pictures")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in DATASETS]:
            raise ValueError(f"unknown data set {unknown[0]!r}; valid data sets: {', '.join(DATASETS)}")
        return names


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


class Training(Closed):
    """Part of `objection`: how long a network of the setting is trained, and with what weight decay.

    ``skip_below: 0`` has a `LargeMlp` see every example in every epoch; it keeps its own way of skipping by default.
    """

    epochs: PositiveInt
    weight_decay: Annotated[float, Field(ge=0)]
    skip_below: Annotated[float, Field(ge=0)] | None = None

    @classmethod
    def of(cls, learner: Mlp | LargeMlp) -> Self:
        """The training that a learner has."""
        return cls(epochs=learner.epochs, weight_decay=learner.weight_decay)


class Objection(Closed):
    """Stage `objection` of a setting: removal with other trainings, cleaned tests, and something put back.

    Without ``own_trials`` no training selects examples of its own, without ``folds`` no split by place is made. ``restored``
    says what stands for a removed example: other ``members`` of its sub-population, or ``look-alikes`` among the tests.
    """

    trainings: Annotated[tuple[Training, ...], Field(min_length=2)]
    nearest_neighbour: bool
    own_trials: NonNegativeInt
    repeats: AtLeastTwo
    excluded: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    duplicates: Fraction
    draws: PositiveInt
    restored: Literal["members", "look-alikes", "none"]
    restored_repeats: AtLeastTwo
    folds: NonNegativeInt
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _splits_are_estimated(self) -> Self:
        if self.folds and not self.own_trials:
            raise ValueError(f"folds is {self.folds}, but without own_trials nothing can be estimated on other splits")
        return self


class Relatives(Closed):
    """Stage `relatives` of a setting: consistency profiles, and cheap proxies of memorization.

    ``step`` is the length of the finite step in each input for curvatures; ``groups`` are the lower ends, ascending, of the
    ranges of memorization for which profiles are shown.
    """

    ratios: Annotated[tuple[Fraction, ...], Field(min_length=2)]
    trials: AtLeastTwo
    shuffled_trials: AtLeastTwo
    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    networks: AtLeastTwo
    directions: PositiveInt
    step: PositiveFloat
    groups: Annotated[tuple[float, ...], Field(min_length=1)]
    bootstrap: AtLeastTwo
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


class PublishedRemoval(Closed):
    """Stage `published_removal`: training without the released influencers of CIFAR-100, and without random examples.

    ``random`` lists sizes of random sets besides that of the influencers; ``source`` as in `Published`.
    """

    source: Literal["released", "made_up"]
    setting: str
    random: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    repeats: AtLeastTwo
    seed: NonNegativeInt


class Pictures(Closed):
    """Part of `memorizers`: a data set of pictures, how many of each class are taken, and the network trained on them."""

    data: Literal["digits", "mnist"]
    per_class: AtLeastTwo
    test_per_class: PositiveInt
    network: Mlp


class Board(Closed):
    """Part of `memorizers`: a chessboard of ``side ** dimension`` cubes, ``gap`` apart when centres are 1 apart."""

    dimension: AtLeastTwo
    side: EvenSize
    gap: Fraction


class Sweep(Closed):
    """Part of `memorizers`: clusters and chessboards behind a first layer of several widths."""

    clusters: AtLeastTwo
    noise: PositiveFloat
    dimensions: Annotated[tuple[AtLeastTwo, ...], Field(min_length=1)]
    cluster_points: AtLeastTwo
    boards: Annotated[tuple[Board, ...], Field(min_length=1)]
    board_points: AtLeastTwo
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    tests: PositiveInt
    repeats: AtLeastTwo


class Growth(Closed):
    """Part of `memorizers`: samples of growing size of some pairs of classes of ``pictures``, and of clusters."""

    pictures: str
    pairs: Annotated[tuple[tuple[NonNegativeInt, NonNegativeInt], ...], Field(min_length=1)]
    sizes: Annotated[tuple[Annotated[int, Field(ge=16)], ...], Field(min_length=2)]
    tests: PositiveInt
    repeats: AtLeastTwo
    cluster_dimension: AtLeastTwo


class Cells(Closed):
    """Part of `memorizers`: worlds of ``count`` equally likely cells, sampled with each of ``sizes``."""

    count: AtLeastTwo
    dimension: AtLeastTwo
    cover: Fraction
    reach: Fraction
    sizes: Annotated[tuple[Annotated[int, Field(ge=16)], ...], Field(min_length=2)]
    tests: PositiveInt
    worlds: AtLeastTwo
    network: Mlp


class Memorizers(Closed):
    """Stage `memorizers`: three networks without a training error, on pairs of classes and on made-up data.

    A bump covers what is nearer than ``cover`` times the distance to the other label, and reaches ``reach`` times as far.
    """

    pictures: Annotated[dict[str, Pictures], Field(min_length=1)]
    repeats: AtLeastTwo
    cover: Fraction
    reach: Annotated[float, Field(gt=0, le=1)]
    penalty: PositiveFloat
    sweep: Sweep
    growth: Growth
    cells: Cells
    corner_dimensions: Annotated[tuple[AtLeastTwo, ...], Field(min_length=4)]
    corner_error: Annotated[float, Field(ge=0, lt=0.5)]
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.growth.pictures not in self.pictures:
            raise ValueError(f"growth.pictures is {self.growth.pictures!r}; valid names: {', '.join(self.pictures)}")
        for name, part in (("memorizers", self), ("memorizers.cells", self.cells)):
            if part.cover > part.reach:
                raise ValueError(f"{name}.cover is {part.cover}; a point beyond reach = {part.reach} would not be fitted")
        return self


class Convolutional(Closed):
    """Part of `random_pictures`: the network with convolutions."""

    architecture: Compact
    learning_rate: PositiveFloat


class Perceptron(Closed):
    """Part of `random_pictures`: the network without."""

    widths: tuple[PositiveInt, ...]
    learning_rate: PositiveFloat


class RandomPictures(Closed):
    """Stage `random_pictures`: labels and pixels made random on MNIST and CIFAR-100, and the network with 2n + d weights.

    ``data`` gives each name the data set that is used for it, its own but in trials of the pipeline. ``corruption`` ascends
    from 0 to 1; ``too_small`` is a network that must fail; ``regularized`` names the data on which regularizers are tried;
    ``built`` and ``placed`` are numbers of points, ``places`` shares of a gap.
    """

    data: Annotated[
        dict[Literal["mnist", "cifar100", "digits"], Literal["mnist", "cifar100", "digits"]], Field(min_length=1)
    ]
    classes: AtLeastTwo
    pictures: AtLeastFour
    tests: PositiveInt
    corruption: tuple[Threshold, ...]
    convolutional: Convolutional
    perceptron: Perceptron
    too_small: Convolutional
    batch_size: AtLeastTwo
    momentum: Fraction
    decay: Annotated[float, Field(gt=0, le=1)]
    epochs: PositiveInt
    fitted: Fraction
    repeats: AtLeastTwo
    penalty: PositiveFloat
    regularized: str
    regularized_epochs: PositiveInt
    regularized_repeats: AtLeastTwo
    weight_decay: PositiveFloat
    shift: PositiveInt
    built: Annotated[tuple[AtLeastFour, ...], Field(min_length=1)]
    placed: Annotated[tuple[AtLeastFour, ...], Field(min_length=1)]
    places: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)]
    shown: PositiveInt
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        levels = self.corruption
        if sorted(set(levels)) != list(levels) or len(levels) < 2 or (levels[0], levels[-1]) != (0, 1):
            raise ValueError(f"levels of corruption must ascend from 0 to 1, found {list(levels)}")
        if self.regularized not in self.data:
            raise ValueError(f"regularized is {self.regularized!r}; data has {', '.join(self.data)}")
        if self.pictures % self.batch_size == 1:
            raise ValueError("pictures leave a last minibatch of one, which batch normalization cannot take")
        return self


class OwnData(Closed):
    """Stage `own_data`: a reader's own arrays, pictures and network, with wrong labels planted among them.

    Digits are as in scikit-learn and shapes are drawn; ``noise`` is the standard deviation, a pixel, by which a test that
    is a twin of a mislabelled digit differs from it.
    """

    classes: AtLeastTwo
    per_class: AtLeastFour
    test_per_class: PositiveInt
    pictures_per_class: AtLeastFour
    test_pictures_per_class: PositiveInt
    mislabelled: PositiveInt
    twins: PositiveInt
    noise: PositiveFloat
    settings: Annotated[dict[str, Setting], Field(min_length=2)]
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.twins > self.mislabelled:
            raise ValueError(f"twins is {self.twins}; only the {self.mislabelled} mislabelled examples can have one")
        kinds = {setting.data.endswith(".npz") for setting in self.settings.values()}
        if kinds != {True, False}:
            raise ValueError("settings needs data of both kinds, <file>.npz and <folder>@<pixels>")
        return self


class RandomInputs(Closed):
    """Part of `controls`: n random inputs with random labels, as many tests, and copies with noise of relative length
    ``copy_noise``.
    """

    n: AtLeastFour
    copy_noise: Fraction
    epochs: PositiveInt


class RandomLabels(Closed):
    """Part of `controls`: n of scikit-learn's digits; ``labelings`` draws of labels for a removal."""

    n: AtLeastFour
    epochs: PositiveInt
    labelings: PositiveInt


class Clusters(Closed):
    """Part of `controls`: ``groups`` clusters of ``each`` training examples, around centres of norm 1.

    ``noise`` is the standard deviation in every coordinate.
    """

    groups: AtLeastTwo
    each: AtLeastTwo
    dimension: PositiveInt
    noise: PositiveFloat


class SubPopulations(Clusters):
    """Part of `controls`: frequent clusters, and a long tail of ``tail`` clusters under Zipf's law."""

    tail: AtLeastTwo
    epochs: PositiveInt


class Controls(Closed):
    """Stage `controls`: experiments whose outcome is known beforehand.

    In each of ``worlds`` repeats ``trials`` models are trained for estimates, and ``fresh`` ones for each arm of a removal;
    ``classes`` are those of made-up data.
    """

    setting: str
    worlds: AtLeastTwo
    trials: AtLeastFour
    fresh: AtLeastTwo
    classes: AtLeastTwo
    random_inputs: RandomInputs
    random_labels: RandomLabels
    nearest_neighbour: Clusters
    sub_populations: SubPopulations
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _every_class_has_a_cluster(self) -> Self:
        least = min(self.nearest_neighbour.groups, self.sub_populations.groups, self.sub_populations.tail)
        if least < self.classes:
            raise ValueError(f"classes is {self.classes}; there are only {least} clusters in one of the worlds")
        return self


Scalar = bool | int | float | str


class Params(Closed):
    """The whole of ``params.yaml``; ``chapters`` holds one table of scalars for each chapter's parameters cell."""

    settings: dict[str, Setting]
    estimate: Estimate
    leave_one_out: LeaveOneOut
    removal: dict[str, Removal]
    objection: dict[str, Objection]
    fitting: Fitting
    long_tail: LongTail
    capacity: Capacity
    localization: Localization
    frozen_layers: dict[str, FrozenLayers]
    relatives: dict[str, Relatives]
    scaling: Scaling
    consistency: Consistency
    published: Published
    published_removal: PublishedRemoval
    memorizers: Memorizers
    privacy: Privacy
    own_data: OwnData
    random_pictures: RandomPictures
    tails: Tails
    subpopulations: Subpopulations
    controls: Controls
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


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one table, where YAML takes the later. To override one from ``<<`` is no second."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, lines = super().compose_mapping_node(anchor), {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            lines.setdefault((key.tag, key.value), []).append(key.start_mark.line + 1)
        for (_, key), found in lines.items():
            if len(found) > 1:
                where = " and ".join(map(str, found))
                raise ValueError(f"{self.name} is not valid:\n  key {key!r} stands in line {where} of one table; keep one")
        return node


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check ``params.yaml``.

    Raises ``ValueError`` that names each wrong key, its value, and the keys that are valid in its place, or a key that
    stands twice in one table.
    """
    with open(path) as file:
        tree = yaml.load(file, Loader=_Loader)
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{path} is not valid:\n" + "\n".join(map(_explain, error.errors()))) from error


def _explain(problem: dict) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    return f"  {where}: {problem['msg']}; found {problem['input']!r}"
