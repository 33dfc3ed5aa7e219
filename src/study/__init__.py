"""An executable study of memorization in deep learning.

data, subsets    the data sets in canonical order; which examples trial k sees
learners         the learning algorithms, one signature
params           params.yaml as validated data
trials           many models on subsets over Dask, resumable
predictions      the prediction file
estimators       memorization, influence, standard errors; `estimation` is their stage
case_studies, theory, localization   the experiments behind the chapters
claims           the ledger: published value, measured value, verdict
charts, notebooks                    figures, executed chapters
verbs            what `python -m study` can do; `pipeline` runs stages side by side, as forks of a `warm` process
site             the book; `main_numbers` is its first table, `provenance` leads from claims to runs, `finish` and `lean`
                 make its pages light and valid, `runs` knows what each run reads, `freshness` whether it must be made
                 again, `times` where the time of a run went
library          `estimate` for anyone's masks and results: `from study import estimate`
inventory        what is published, read from the files; `cards` describes it, `supplement` prints the book,
                 `release` packs a version
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`estimate` is imported when it is asked for: `import study` alone loads nothing."""
    if name == "estimate":
        from study.library import estimate

        return estimate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
