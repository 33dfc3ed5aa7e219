"""Stage `scaling`: what the study costs, measured small, and what it would cost on ImageNet, computed from that.

Four measurements, each a table in ``tables/scaling/``:

* `learners`: every setting with a prediction file: operations and time of a model, bits of a prediction, the record of
  its training;
* `resolutions`: what a picture of ImageNet costs the learner in question, at every resolution;
* `compression`: bits that a prediction takes, by how often models are right, against what no coder can beat;
* `estimation`: seconds of estimation on made-up predictions with ImageNet's classes, from few of them to many.

Times are those of one worker with one thread on the machine that `summary` describes. They differ a little from run to
run, so this stage is a laboratory measurement: it is made once, kept, and repeated on demand. Takes about 50 seconds.
"""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.stats import linregress
from scipy.stats import t as student
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from study import data as datasets
from study import estimators, notebooks, predictions, subsets, tables
from study.data import IMAGENET_PIXELS, Data
from study.params import Params, Scaling, Setting

INPUTS = {
    "digits": ((8, 8), np.float32),
    "longtail": ((64,), np.float32),
    "mnist": ((28, 28), np.uint8),
    "cifar100": ((32, 32, 3), np.uint8),
} | {f"imagenet-{pixels}": ((pixels, pixels, 3), np.uint8) for pixels in IMAGENET_PIXELS}

LEARNERS = ["setting", "trials", "n", "n_test", "m", "epochs", "test_accuracy", "file_bytes", "bits", "entropy"]
LEARNERS += ["operations", "seconds", "recorded_seconds", "recorded_cores", "recorded_cpu", "recorded_gpu"]
RECORDS = Path("published/records"), Path("records")  # the later one wins
MORE_EPOCHS = 1  # of the second of the three runs from which the cost of a model is solved
PARTS = {"masks": 1, "memorization": 1, "pairs of one class": 1, "all pairs": 2}  # and the power of n each grows with


@dataclass(frozen=True)
class Cost:
    """What a model costs, in seconds or floating-point operations: once, for each example and epoch, for each label."""

    fixed: float
    trained: float
    predicted: float

    def of_model(self, m: int, epochs: int, labelled: int) -> float:
        """Training on ``m`` examples for ``epochs``, then labelling ``labelled`` examples."""
        return self.fixed + self.trained * m * epochs + self.predicted * labelled


def run(study: Params) -> dict:
    """Measure everything, save the tables, return the summary."""
    rules = study.scaling
    setting = study.setting(rules.setting)
    frames = {
        "learners": learners(study),
        "resolutions": resolutions(setting, rules),
        "compression": compression(setting, rules),
        "estimation": estimation(setting, rules, study.estimate.mem_threshold, study.estimate.infl_threshold),
    }
    for name, frame in frames.items():
        tables.save("scaling", name, frame)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    summary = {"machine": notebooks.hardware() | {"gpu": gpu}, "threads": torch.get_num_threads()}
    tables.save("scaling", "summary", summary)
    return summary


# What a model costs


def operations(learner, data: str, classes: int) -> Cost:
    """Floating-point operations of one model on inputs of the data set named ``data``, as torch counts them: those of matrix
    products and convolutions. A learner that skips examples it has learned needs less: made-up labels are never learned."""
    return _solved(learner, data, classes, _operations)


def seconds(learner, data: str, classes: int, repeats: int) -> Cost:
    """Seconds of one model, trained alone on made-up inputs; of each run the quickest of ``repeats``."""
    return _solved(learner, data, classes, lambda *job: min(_taken(*job) for _ in range(repeats)))


def _solved(learner, data: str, classes: int, measure) -> Cost:
    """From three runs: an epoch of one minibatch, `MORE_EPOCHS` more of them, and one more minibatch to label."""
    m = getattr(learner, "head", learner).batch_size
    short, long = (with_epochs(learner, epochs) for epochs in (1, 1 + MORE_EPOCHS))
    few, many = (_made_up(data, classes, m, tests) for tests in (classes, classes + m))
    if hasattr(learner, "features"):
        learner.features(few), learner.features(many)  # a frozen representation is trained once a process, and not counted
    base, longer, wider = (measure(fit, *job, m) for job in ((short, few), (long, few), (short, many)))
    trained, predicted = max(longer - base, 0) / (MORE_EPOCHS * m), max(wider - base, 0) / m
    return Cost(max(base - m * trained - (few.n + few.n_test) * predicted, 0), trained, predicted)


def with_epochs(learner, epochs: int):
    """The learner, or its head, with another number of epochs."""
    changed = {"head": with_epochs(learner.head, epochs)} if hasattr(learner, "head") else {"epochs": epochs}
    return learner.model_copy(update=changed)


def _made_up(data: str, classes: int, m: int, tests: int) -> Data:
    """Random inputs of the shape and type of a data set; what they show changes no number of operations."""
    (shape, kind), draw = INPUTS[data], np.random.default_rng(0)
    counts = max(m + 1, classes), tests
    x = [draw.integers(0, 256, (count, *shape), dtype=np.uint8) for count in counts]
    x = [part if kind == np.uint8 else part / np.float32(255) for part in x]
    y = [np.arange(count, dtype=np.int64) % classes for count in counts]
    return Data(f"made-up {data}", x[0], y[0], x[1], y[1], tuple(map(str, range(classes))))


def fit(learner, data: Data, m: int, models: int = 1) -> None:
    """Train ``models`` models on the first ``m`` examples, and label all."""
    members = np.tile(np.arange(data.n) < m, (models, 1))
    learner.fit_predict(data, members, subsets.trial_seeds(0, range(models)))


def _operations(function, *arguments) -> float:
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return float(counter.get_total_flops())


def _taken(function, *arguments) -> float:
    """Seconds of this process on its core, whatever else the machine does; of the clock on the wall where a GPU works."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    function(*arguments)
    return clock() - start


# The settings that have been trained


def learners(study: Params) -> pd.DataFrame:
    """One row for every setting with a prediction file.

    Columns: setting, trials, n, n_test, m, epochs, test_accuracy; file_bytes, bits and entropy (of a prediction);
    operations (of a model, at most); seconds (of a model, one worker, for the settings that ``timed`` lists);
    recorded_seconds, recorded_cores, recorded_cpu, recorded_gpu. What was not measured is NaN.
    """
    files = {name: predictions.path_of(name) for name in study.settings}
    rows = [_row(name, study, path) for name, path in files.items() if path.is_file()]
    return pd.DataFrame(rows, columns=LEARNERS)


def _row(name: str, study: Params, path: Path) -> dict:
    setting, file = study.setting(name), predictions.load(path)
    (trials, n), n_test = file.train_correct.shape, file.sizes["test"]
    learner, m, classes = setting.learner, subsets.subset_size(n, setting.ratio), int(file.train_label.max()) + 1
    row = {"setting": name, "trials": trials, "n": n, "n_test": n_test, "m": m}
    row |= {"test_accuracy": float(file.test_correct[~file.diverged].mean())} | _stored(file, path)
    if epochs := getattr(getattr(learner, "head", learner), "epochs", None):
        counted = operations(learner, setting.data, classes).of_model(m, epochs, n + n_test)
        row |= {"epochs": epochs, "operations": counted or float("nan")}
    if name in study.scaling.timed:
        row |= {"seconds": _seconds_of_model(setting, m, study.scaling.repeats)}
    return row | recorded(name, file.attrs["fingerprint"])


def _stored(file: xr.Dataset, path: Path) -> dict:
    correct = (file.train_correct.values, file.test_correct.values)
    count = sum(bits.size for bits in correct)
    entropy = sum(binary_entropy(bits.mean(0)).sum() * len(bits) for bits in correct) / count
    return {"file_bytes": path.stat().st_size, "bits": 8 * path.stat().st_size / count, "entropy": float(entropy)}


def binary_entropy(p: np.ndarray) -> np.ndarray:
    """Bits that a coin with probability ``p`` of heads is worth; 0 where it always falls the same way."""
    p = np.asarray(p, dtype=float)
    q = np.stack([p, 1 - p])
    return 0 - (q * np.log2(np.where(q > 0, q, 1))).sum(0)


def _seconds_of_model(setting: Setting, m: int, repeats: int) -> float:
    """On the true data, when as many are trained at once as the setting says."""
    data, models = datasets.load(setting.data), setting.learner.models_at_once
    return min(_taken(fit, setting.learner, data, m, models) for _ in range(repeats)) / models


def recorded(name: str, fingerprint: str) -> dict:
    """What the record of a setting's training says of the predictions with this fingerprint; empty if there is none.

    A run that was taken up again has a record of its last part only: the time may be too short, never too long.
    """
    found = {}
    for path in (folder / f"{notebooks.run_name('train', name)}.json" for folder in RECORDS):
        record = json.loads(path.read_text()) if path.is_file() else {}
        if record.get("fingerprint") == fingerprint:
            machine = record["hardware"]
            found = {"recorded_seconds": record["seconds"], "recorded_cores": machine["cores"]}
            found |= {"recorded_cpu": machine["cpu"], "recorded_gpu": machine.get("gpu")}
    return found


# One picture of ImageNet


def resolutions(setting: Setting, rules: Scaling) -> pd.DataFrame:
    """Cost of a picture at each resolution: pixels, trained_operations and predicted_operations; trained_seconds and
    predicted_seconds at the resolution of the setting, NaN at the others."""
    architecture = setting.learner.architecture
    frame = pd.DataFrame({"pixels": IMAGENET_PIXELS})
    counted = [picture_operations(architecture, pixels, rules.classes) for pixels in IMAGENET_PIXELS]
    frame[["trained_operations", "predicted_operations"]] = counted
    timed, own = picture_seconds(setting, rules), frame.pixels == INPUTS[setting.data][0][0]
    for part in ("trained", "predicted"):
        frame[f"{part}_seconds"] = np.where(own, getattr(timed, part), np.nan)
    return frame


def picture_operations(architecture, pixels: int, classes: int) -> tuple[float, float]:
    """Floating-point operations of training on one colour picture, and of labelling it.

    Counted while the network runs on torch's `meta` device, where tensors have shapes and no values.
    """
    with torch.device("meta"):
        network = torch.nn.Sequential(*architecture.parts((pixels, pixels, 3), classes))
        pictures, labels = torch.empty(2, 3, pixels, pixels), torch.zeros(2, dtype=torch.long)
    labelled = _operations(network, pictures)
    return _operations(lambda: cross_entropy(network(pictures), labels).backward()) / 2, labelled / 2


def picture_seconds(setting: Setting, rules: Scaling) -> Cost:
    """Seconds of one worker a picture at the setting's resolution, in minibatches of ``timed_batch`` pictures.

    The setting's own minibatch would take minutes. The last layer has ``timed_batch`` outputs; with ImageNet's thousand it
    does one part in two thousand of the work.
    """
    learner = setting.learner.model_copy(update={"batch_size": rules.timed_batch, "models_at_once": 1})
    return seconds(learner, setting.data, rules.timed_batch, rules.repeats)


# Storage


def compression(setting: Setting, rules: Scaling) -> pd.DataFrame:
    """Bits a prediction takes in a file of made-up predictions that are right at random: accuracy, entropy, bits."""
    rows = [{"accuracy": p, "entropy": float(binary_entropy(p)), "bits": _bits(setting, p, rules)} for p in rules.accuracies]
    return pd.DataFrame(rows)


def _bits(setting: Setting, accuracy: float, rules: Scaling) -> float:
    n, draw = predictions.EXAMPLES_A_CHUNK, np.random.default_rng(rules.seed)
    train, test = (draw.random((rules.file_trials, n), dtype=np.float32) < accuracy for _ in range(2))
    labels = np.arange(n) % rules.classes
    x = np.zeros((n, 1), np.uint8)
    data = Data("made-up", x, labels, x, labels, tuple(map(str, range(rules.classes))))
    trials = range(rules.file_trials)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up.zarr.zip"
        predictions.write(path, setting, data, trials, train, test, np.zeros(len(trials), dtype=bool))
        return 8 * path.stat().st_size / (train.size + test.size)


# Estimation


def estimation(setting: Setting, rules: Scaling, mem_threshold: float, infl_threshold: float) -> pd.DataFrame:
    """Seconds of each part of the estimation, for growing numbers of classes of ImageNet's size: classes, n, n_test, part,
    seconds (the quickest of several runs).

    A class has ``n / classes`` training and ``n_test / classes`` test examples, so that n grows as it would on ImageNet:
    by classes. Selecting pairs without regard to class goes through every example and every test, for comparison.
    """
    rows = []
    for classes in rules.simulated_classes:
        arrays = simulated(classes, setting, rules)
        n, n_test = (arrays[key].shape[1] for key in ("train_correct", "test_correct"))
        taken = [_times(arrays, setting, rules, mem_threshold, infl_threshold) for _ in range(rules.repeats)]
        size = {"classes": classes, "n": n, "n_test": n_test}
        rows += [size | {"part": part, "seconds": min(times[part] for times in taken)} for part in PARTS]
    return pd.DataFrame(rows)


def simulated(classes: int, setting: Setting, rules: Scaling) -> dict[str, np.ndarray]:
    """Arguments of `estimators.estimate`, made up; a share ``memorized`` of the examples is mostly wrong when held out."""
    draw, shape = np.random.default_rng((rules.seed, classes)), (setting.trials, classes * (rules.n // rules.classes))
    members = subsets.members(rules.seed, range(setting.trials), shape[1], setting.ratio)
    memorized = draw.random(shape[1]) < rules.memorized
    train_correct = members | (draw.random(shape, dtype=np.float32) < np.where(memorized, np.float32(0.3), np.float32(0.97)))
    tests = (setting.trials, classes * (rules.n_test // rules.classes))
    return {
        "members": members,
        "train_correct": train_correct,
        "test_correct": draw.random(tests, dtype=np.float32) < np.float32(0.75),
        "train_labels": np.arange(shape[1]) * classes // shape[1],  # class after class, as a folder of pictures is read
        "test_labels": np.arange(tests[1]) * classes // tests[1],
    }


def _times(arrays: dict, setting: Setting, rules: Scaling, mem_threshold: float, infl_threshold: float) -> dict:
    """Seconds by part, of estimates that have computed nothing yet."""
    (trials, n), estimates = arrays["members"].shape, estimators.estimate(**arrays)
    work = {
        "masks": lambda: subsets.members(rules.seed, range(trials), n, setting.ratio),
        "memorization": lambda: estimates.memorization,
        "pairs of one class": lambda: estimates.pairs(mem_threshold, infl_threshold),
        "all pairs": lambda: estimates.pairs(-1.0, infl_threshold, same_class=False),
    }
    return {part: _taken(function) for part, function in work.items()}


# What follows for the full study


def power_law(n: np.ndarray, seconds: np.ndarray, at: float) -> dict[str, float]:
    """Least squares line through log seconds over log n: ``slope``, ``slope_error``, and ``seconds`` extrapolated to ``at``
    with ``low`` and ``high``, a 95 % interval for a new measurement if the line holds that far.

    Raises ``ValueError`` for fewer than three sizes, which leave no residual to tell the error from.
    """
    if len(n) < 3:
        raise ValueError(f"{len(n)} sizes cannot tell how well a line fits; at least three are needed")
    x, y = np.log(np.asarray(n, dtype=float)), np.log(np.asarray(seconds, dtype=float))
    fit, spread = linregress(x, y), ((x - x.mean()) ** 2).sum()
    middle, free = fit.intercept + fit.slope * np.log(at), len(x) - 2
    residual = np.sqrt(((y - fit.intercept - fit.slope * x) ** 2).sum() / free)
    reach = student.ppf(0.975, free) * residual * np.sqrt(1 + 1 / len(x) + (np.log(at) - x.mean()) ** 2 / spread)
    bounds = {"low": np.exp(middle - reach), "high": np.exp(middle + reach)}
    found = {"slope": fit.slope, "slope_error": fit.stderr, "seconds": np.exp(middle)} | bounds
    return {key: float(value) for key, value in found.items()}


def extrapolated(estimation: pd.DataFrame, rules: Scaling) -> pd.DataFrame:
    """Each part of the estimation at ImageNet's size, one row a part: what `power_law` says, the ``expected`` power of n,
    and ``by_power``, the largest measurement multiplied by that power of the ratio of sizes."""
    rows = []
    for part, frame in estimation.groupby("part", sort=False):
        last = frame.loc[frame.n.idxmax()]
        by_power = last.seconds * (rules.n / last.n) ** PARTS[part]
        law = power_law(frame.n, frame.seconds, rules.n)
        rows.append({"part": part, **law, "expected": PARTS[part], "by_power": by_power})
    return pd.DataFrame(rows)


def measured_speeds(learners: pd.DataFrame, resolutions: pd.DataFrame, machine: dict, name: str) -> list[str]:
    """Operations a second that were measured on an accelerator, a phrase each: by the records of trained settings, and by
    setting ``name`` if this stage ran on one. Empty where none was."""
    there = learners[learners.recorded_gpu.notna()]
    found = [
        f"{row.setting} on {row.recorded_gpu}: {row.operations * row.trials / row.recorded_seconds / 1e12:.3g} TFLOP/s"
        for row in there.itertuples()
    ]
    own = resolutions.dropna().iloc[0]
    here = f"{name} on {machine['gpu']}: {own.trained_operations / own.trained_seconds / 1e12:.3g} TFLOP/s"
    return [*found, here] if machine["gpu"] else found


def training(resolutions: pd.DataFrame, setting: Setting, rules: Scaling, sustained: float) -> pd.DataFrame:
    """The training of all trials at each resolution: operations; accelerator_hours at ``sustained`` operations a second, an
    assumption; core_hours by the measured seconds; picture_rate, the pictures trained a second under the assumption."""
    m, labelled, epochs = subsets.subset_size(rules.n, setting.ratio), rules.n + rules.n_test, setting.learner.epochs
    rows = []
    for row in resolutions.itertuples():
        counted = Cost(0, row.trained_operations, row.predicted_operations).of_model(m, epochs, labelled) * setting.trials
        measured = Cost(0, row.trained_seconds, row.predicted_seconds).of_model(m, epochs, labelled) * setting.trials
        hours = {"accelerator_hours": counted / sustained / 3600, "core_hours": measured / 3600}
        rate = {"picture_rate": sustained / row.trained_operations}
        rows.append({"pixels": row.pixels, "operations": counted} | hours | rate)
    return pd.DataFrame(rows)


def predictions_bytes(bits: float, trials: int, rules: Scaling) -> float:
    """Size of the prediction file at ``bits`` a prediction."""
    return bits * trials * (rules.n + rules.n_test) / 8
