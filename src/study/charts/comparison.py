"""The table of the chapter on case studies that sets data sets beside each other and beside what was published."""

import pandas as pd

from study import claims
from study.quantities import known


def side_by_side(summaries: dict[str, dict], published: dict) -> pd.DataFrame:
    """Summaries of the stage `estimate` by data set as columns of text, each beside what was published of that data set.

    ``published`` holds the published values of `claims.yaml` by claim.
    """
    columns, theirs = {}, _published(published)
    for name, summary in summaries.items():
        columns[name] = _column(summary)
        if name in theirs:
            columns[f"{name}, published"] = theirs[name]
    rows = list(_column(summary))
    return pd.DataFrame(columns, index=rows).fillna("–")


def _column(summary: dict) -> dict[str, str]:
    memorized, pairs = summary["memorized"], summary["pairs"]
    return {
        "training examples": f"{summary['n']:,}",
        "test examples": f"{summary['n_test']:,}",
        "trials": f"{summary['trials']:,}",
        "accuracy, subset": _percent(summary["in_accuracy"]),
        "accuracy, held out": _percent(summary["out_accuracy"]),
        "accuracy, test": _percent(summary["test_accuracy"]),
        "mean standard error": f"{summary['mean_std_error']:.4f}",
        "memorized": f"{memorized['count']:,} ({memorized['share']:.1%})",
        "memorized, permuted": f"{pairs['null_memorized']:,.1f}",
        "pairs": f"{pairs['count']:,}",
        "pairs, mirrored": f"{pairs['mirrored_count']:,}",
        "pairs, permuted": f"{pairs['null_count']:,.1f}",
        "pairs that chance explains": _percent(pairs["false_discovery"]),
        "tests in a pair": f"{pairs['unique_tests']:,} ({pairs['share_of_tests']:.2%})",
        "tests with one influencer": f"{pairs['single_influencer_tests']:,}",
        "examples in a pair": f"{pairs['unique_trains']:,}",
    }


def _published(published: dict) -> dict[str, dict[str, str]]:
    """The same rows as `_column`, as far as they were published."""
    rows = ("pairs", "tests in a pair", "tests with one influencer", "examples in a pair")
    mnist = (published[claim].value for claim in ("mnist-pairs", "mnist-tests-in-pairs", "mnist-tests-with-one-influencer"))
    cifar100 = (*published["cifar100-pair-counts"].values, published["cifar100-influencer-count"].value)
    counts = {"MNIST": mnist, "CIFAR-100": cifar100}
    columns = {name: {row: f"{count:,}" for row, count in zip(rows, found)} for name, found in counts.items()}
    columns["CIFAR-100"]["accuracy, test"] = claims.show_published(published["subset-network-accuracy"])
    columns["CIFAR-100"]["memorized"] = f"{published['cifar100-memorized-count'].value:,}"
    return columns


def _percent(quantity: dict) -> str:
    return claims.show(*known(quantity), "percent")
