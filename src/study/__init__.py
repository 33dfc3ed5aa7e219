"""An executable study of memorization in deep learning.

data, subsets    the data sets in canonical order; which examples trial k sees
learners         the learning algorithms, one signature
params           params.yaml as validated data
trials           many models on subsets over Dask, resumable
predictions      the prediction file
estimators       memorization, influence, standard errors; `estimation` is their stage
case_studies, theory, localization   the experiments behind the chapters
claims           the ledger: published value, measured value, verdict
charts, notebooks, site              figures, executed chapters, the book
"""

__version__ = "0.1.0"
