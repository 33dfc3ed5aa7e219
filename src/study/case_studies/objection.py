"""Stage `objection`: does the loss from removing memorized examples come from something else than memorization?

"Is Memorization Actually Necessary for Generalization?", a submission to ICLR that was rejected, holds that the effect of
removal in Feldman & Zhang (2020) is made of three faults: networks that were not trained well, tests that have near
duplicates in the training set, and sub-populations that vanish with what is removed. Each gets an experiment:

* `compare_trainings`: the removal again, with shorter and longer training and with weight decay, of the setting's
  influencers and of what that very training memorizes; and for the nearest-neighbour rule, which is never under-trained.
* `exclusions`: the loss on the tests that are left when those near a removed example are excluded, or those near any
  training example; `split_by_place` keeps what stands together in the file of digits on one side of the split.
* `restore`: after removal put back fresh members of the same sub-populations, or as many fresh strangers. Sub-populations
  are known in the made-up long tail; among digits the most similar unused picture stands for a member.

The control of every removal is the same selection with the examples of each class shuffled, a set of its own for each
model. Model r has the same seed in every arm, so losses are taken model by model. What is removed was chosen by trials
that measure nothing here.

On digits the stage takes two and a half minutes of a core, on the long tail three quarters of one (November 2026). With 24
networks in each arm the standard error of an excess loss is about 0.1 points on digits, of which 1.4 are lost.

On MNIST the longest training sees every example in every epoch: networks that leave out what they have learned forget
some of it when they are trained for longer (12 epochs fit 99.71 % of the training set, four fit 99.85 %).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import pairs as high_influence
from study import tables
from study.case_studies import neighbours
from study.case_studies.leakage import compare_splits, exclusions
from study.case_studies.parts import Parts
from study.case_studies.refits import (
    EVERYTHING,
    INFLUENCERS,
    KEYS,
    OWN,
    Arms,
    Study,
    control,
    fresh_estimates,
    retrain,
    with_controls,
)
from study.case_studies.restoration import restore
from study.learners import LargeMlp, Mlp, NearestNeighbour
from study.params import Estimate, Objection, Setting, Training
from study.quantities import mean, ratio
from study.subsets import subset_size


def run(name: str, section: Objection, setting: Setting, rule: Estimate, client: Client | None = None) -> dict:
    """Run what ``section`` asks for, save it under ``tables/objection/<name>/`` and return its `summary`.

    Reads the estimates of the setting ``name``. Raises ``ValueError`` if the setting's own training is not among those of
    ``section``, or if the data do not have the sub-populations or places that it asks for.
    """
    check(name, section, setting)
    data, mem = datasets.load(setting.data), tables.load(name, "memorization").mem.to_numpy()
    chosen = high_influence.select(tables.load(name, "pairs"), rule.mem_threshold, rule.infl_threshold, rule)
    study = Study(section, setting, rule, data, mem, chosen, client)
    kept = parts_of(study)
    trained = {learner: train_again(study, learner, kept) for learner in learners(study)}
    own = trained[name_of(Training.of(setting.learner))]
    summary = {"setting": name, "repeats": section.repeats, "n": data.n, "n_test": data.n_test, "pairs": len(chosen)}
    summary |= {"influencers": int(study.influencer.sum()), "affected": int(study.affected.sum())}
    parts = {"trainings": compare_trainings(study, trained), "exclusions": exclusions(study, own)}
    parts |= {"restored": restore(study), "splits": compare_splits(study)}
    for part, (table, numbers) in parts.items():
        summary[part] = numbers
        if len(table):
            tables.save(f"objection/{name}", part, table)
    tables.save(f"objection/{name}", "summary", summary)
    kept.forget()
    return summary


def parts_of(study: Study) -> Parts:
    """Where the trainings are kept while others are still under way."""
    depends = study.section.model_dump_json(), study.rule.model_dump_json(), study.setting.fingerprint(study.data)
    return Parts("objection", *depends, np.packbits(study.influencer).tobytes(), Path(__file__).read_text())


def check(name: str, section: Objection, setting: Setting) -> None:
    """Raise ``ValueError`` where the section asks of the setting what it does not have."""
    if not isinstance(setting.learner, Mlp | LargeMlp):
        raise ValueError(f"setting {name!r} has learner {setting.learner.name!r}; a multilayer perceptron is needed")
    skipping = [name_of(each) for each in section.trainings if each.skip_below is not None]
    if skipping and not isinstance(setting.learner, LargeMlp):
        raise ValueError(
            f"objection.{name}.trainings has skip_below ({skipping[0]}), which only large_mlp has; leave it out"
        )
    if (own := Training.of(setting.learner)) not in section.trainings:
        raise ValueError(
            f"objection.{name}.trainings lacks the setting's own training ({name_of(own)}), to which the others are compared"
        )
    if section.restored == "members" and setting.data != "longtail":
        raise ValueError(
            f"objection.{name}.restored is 'members', but the sub-populations of {setting.data!r} are not known; "
            "use 'look-alikes' or 'none'"
        )


def name_of(training: Training) -> str:
    """The name of a training in tables and figures."""
    epochs = f"{training.epochs} epoch{'s' if training.epochs > 1 else ''}"
    epochs += " of all examples" if training.skip_below == 0 else ""
    return f"{epochs}, weight decay {training.weight_decay:g}" if training.weight_decay else epochs


def learners(study: Study) -> dict:
    """The learners to compare by name: the setting's own with each training, and perhaps the nearest-neighbour rule."""
    found = {
        name_of(each): study.setting.learner.model_copy(update=each.model_dump(exclude_none=True))
        for each in study.section.trainings
    }
    return found | ({"nearest neighbour": NearestNeighbour(models_at_once=100)} if study.section.nearest_neighbour else {})


def train_again(study: Study, name: str, kept: Parts) -> Arms:
    """Models of one learner without the setting's influencers, without what the learner itself memorizes, and controls.

    Its memorization and its results are parts that are ``kept``.
    """
    learner, section = learners(study)[name], study.section
    masks = {INFLUENCERS: study.influencer}
    if section.own_trials or isinstance(learner, NearestNeighbour):
        memorized = kept.keep(f"{name}, memorization", ("mem",), lambda: {"mem": own_memorization(study, learner)})
        masks[OWN] = memorized["mem"] >= study.rule.mem_threshold
    removed = with_controls(masks, study.data.y_train, section.repeats, section.seed)
    found = kept.keep(name, ("fitted", *removed), lambda: _results(study, learner, removed))
    return Arms(removed, {arm: found[arm] for arm in removed}, found["fitted"])


def _results(study: Study, learner, removed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which tests are right in each arm, and under ``fitted`` the accuracy on what the first arm was trained on."""
    data = study.data
    if not isinstance(learner, NearestNeighbour):
        arms = retrain(learner, data, removed, study.section.seed, study.client)
        return {"fitted": arms.fitted, **arms.correct}
    ranked = neighbours.nearest(data, "test")
    right = {arm: neighbours.labels(ranked, ~mask, data.y_train) == data.y_test for arm, mask in removed.items()}
    return {"fitted": np.ones(study.section.repeats), **right}  # an example that it has seen is its own nearest


def own_memorization(study: Study, learner) -> np.ndarray:
    """Memorization by ``learner``, float ``(n,)``: from trials of its own, of the nearest-neighbour rule in closed form."""
    if isinstance(learner, NearestNeighbour):
        return neighbours.memorization(study.data, subset_size(study.data.n, study.setting.ratio))
    return fresh_estimates(study, learner, study.data).memorization.mem.to_numpy()


def compare_trainings(study: Study, trained: Mapping[str, Arms]) -> tuple[pd.DataFrame, dict]:
    """One row a learner, kind of removed set and part of the tests; and the numbers that chapters and claims quote.

    ``excess`` is the loss beyond that of the shuffled set; ``remaining`` the excess of the last training as a share of
    that of the setting's own, model by model.
    """
    own, last = (trained[name_of(each)] for each in (Training.of(study.setting.learner), study.section.trainings[-1]))
    rows = [row for name, arms in trained.items() for row in _training_rows(study, name, arms)]
    numbers = {"learners": [_training_summary(study, name, arms) for name, arms in trained.items()]}
    numbers["own_training"] = name_of(Training.of(study.setting.learner))
    for kind in (kind for kind in KEYS if kind in last.removed):
        numbers[KEYS[kind]] = {
            "excess": [mean(arms.excess(kind)) for arms in trained.values()],
            "affected_excess": [mean(arms.excess(kind, study.affected)) for arms in trained.values()],
            "last_excess": mean(last.excess(kind)),
            "own_excess": mean(own.excess(kind)),
            "remaining": ratio(last.excess(kind), own.excess(kind)),
            "remaining_each": [ratio(arms.excess(kind), own.excess(kind)) for arms in trained.values()],
            "shuffled_drop": [mean(arms.drop(control(kind))) for arms in trained.values()],
        }
    return pd.DataFrame(rows), numbers


def _training_rows(study: Study, name: str, arms: Arms) -> Iterator[dict]:
    parts = {"all": None, "affected": study.affected, "elsewhere": ~study.affected}
    for kind in (kind for kind in KEYS if kind in arms.removed):
        for tests, on in parts.items():
            base, drop, excess = arms.accuracy(EVERYTHING, on), arms.drop(kind, on), arms.excess(kind, on)
            row = {"learner": name, "kind": kind, "tests": tests, "removed": arms.count(kind)}
            columns = {"accuracy": base, "drop": drop, "control_drop": arms.drop(control(kind), on), "excess": excess}
            for column, values in columns.items():
                row |= {column: mean(values)["value"], f"{column}_std_error": mean(values)["std_error"]}
            yield row


def _training_summary(study: Study, name: str, arms: Arms) -> dict:
    numbers = {"learner": name, "fitted": mean(arms.fitted), "test_accuracy": mean(arms.accuracy(EVERYTHING))}
    if OWN in arms.removed:
        own = arms.removed[OWN][0]
        numbers |= {"memorized": int(own.sum()), "in_common": int((own & (study.mem >= study.rule.mem_threshold)).sum())}
    return numbers
