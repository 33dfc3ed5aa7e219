"""Files that others released, which this repository may not hold: fetched once, checked by SHA-256, read from a folder.

They are sought in ``$STUDY_DATA/reference/`` (default ``data/reference/``) and downloaded there from their authors if
missing. The pairs come from the page of Feldman & Zhang (2020, arXiv 2008.03703), without a licence, so only counts of
them are published here; the list of duplicates from ciFAIR (Barz & Denzler 2020, arXiv 1902.00423); the C-scores, without a
licence too, from the page of Jiang et al. (2021, arXiv 2002.03206).
"""

import hashlib
import os
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from study.data import DataError

PAGE = "https://pluskid.github.io/influence-memorization"
KINDS = ("exact", "near", "very similar")  # of duplicates, in the order of the list's column Judgment


@dataclass(frozen=True)
class Released:
    """A file by the ``name`` it has here, the address ``url`` it comes from, and the SHA-256 of its bytes."""

    name: str
    url: str
    sha256: str


def _pairs_file(data: str, sha256: str) -> Released:
    name = f"{data}_high_infl_pairs_infl0.15_mem0.25.npz"
    return Released(name, f"{PAGE}/data/{name}", sha256)


PAIRS = {
    "CIFAR-100": _pairs_file("cifar100", "aea6b093184112f2cdb2056dc387b653ef31658389ccd3c7ac1904d58506b8f3"),
    "ImageNet": _pairs_file("imagenet", "9002166f3f7ad18b97eb62662db4cce1b0c98a7362d69fb1806e3487b1e5bb0a"),
}
DUPLICATES = Released(
    "cifair_duplicates_cifar100.csv",
    "https://raw.githubusercontent.com/cvjena/cifair/master/meta/duplicates_cifar100.csv",
    "3891498a862f2d73df00cd5dc2ee9ae2b6dccf5238691d3c29d9abb12e1c63cb",
)


C_SCORES = Released(
    "cifar100-cscores-orig-order.npz",
    "https://pluskid.github.io/structural-regularity/cscores/cifar100-cscores-orig-order.npz",
    "8e1f3cfc7075052ae2ff4d4b66441dfe399b0d0e125394675cb52b5cc3c18a3a",
)


def pairs(data: str, root: Path | None = None) -> pd.DataFrame:
    """The released high-influence pairs of ``data``, a key of `PAIRS`: columns train, test (indices), infl, mem.

    Indices of CIFAR-100 count from 0 in the official order; those of ImageNet are the authors' own. Raises `DataError`.
    """
    with np.load(path_of(PAIRS[data], root)) as file:
        columns = {"train": "tr_idx", "test": "tt_idx", "infl": "infl", "mem": "mem"}
        return pd.DataFrame({name: file[key] for name, key in columns.items()})


def duplicates(root: Path | None = None) -> pd.DataFrame:
    """CIFAR-100's test pictures with a near copy in the training set: columns test, train, kind (one of `KINDS`).

    Each test picture is listed once, with the training picture most like it. Raises `DataError`.
    """
    listed = pd.read_csv(path_of(DUPLICATES, root))
    kind = np.array(KINDS)[listed.Judgment]
    return pd.DataFrame({"test": listed.TestID, "train": listed.TrainID, "kind": kind})


def c_scores(root: Path | None = None) -> pd.DataFrame:
    """C-scores of CIFAR-100's training examples in the official order: columns label, score. Raises `DataError`."""
    with np.load(path_of(C_SCORES, root)) as file:
        return pd.DataFrame({"label": file["labels"], "score": file["scores"]})


def path_of(file: Released, root: Path | None = None) -> Path:
    """Where ``file`` lies under ``root`` (default ``$STUDY_DATA`` or ``data/``), after fetching it if it is missing.

    Raises `DataError` if it can neither be found nor fetched, or is not the file it should be.
    """
    path = Path(root or os.environ.get("STUDY_DATA", "data")) / "reference" / file.name
    if not path.is_file():
        _fetch(file, path)
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != file.sha256:
        raise DataError(
            f"{path} has SHA-256 {found}, expected {file.sha256}: it is truncated, altered or another version. Delete it "
            f"and run again to fetch it anew from {file.url}"
        )
    return path


def _fetch(file: Released, path: Path) -> None:
    """Download with torch's own function, which writes under a temporary name and renames only what has this hash."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.url, str(path), hash_prefix=file.sha256, progress=False)
    except (RuntimeError, OSError, urllib.error.URLError) as error:
        raise DataError(
            f"{path} is missing and could not be downloaded ({error}). Connect to a network and run again; or put the file "
            f"from {file.url} there under that name, and set STUDY_DATA to the folder above {path.parent.name}/"
        ) from error
