"""A release: all that belongs to one version of the study, in `release/<version>/`, checked against each other.

* `<name>-<version>-site.zip`: the site, which opens from the file system;
* `<name>-<version>-data.zip`: prediction files and tables, as the data cards describe them;
* `<name>-<version>.pdf`: the whole book for print (`supplement`);
* `CITATION.cff`: with version, commit and date;
* `manifest.json`: every prediction file and table with fingerprint, shape, dtype, size and hash;
* `SHA256SUMS`: the hash of each of these, for `sha256sum --check`.

Archives depend on nothing but their contents: sorted names, fixed dates and permissions. The version is that of
`pyproject.toml`, which a tag `v<version>` on the commit confirms; without such a tag the commit is part of the version.
The PDF takes a minute or two, the rest seconds.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from study import cards, inventory, supplement
from study.inventory import PredictionFile, TableFile
from study.notebooks import write_text

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold
FILE_MODE = 0o100644 << 16
LOCK = "dvc.lock"  # written by the pipeline, not by hand: it may differ from the commit, and the manifest tells


class ReleaseError(ValueError):
    """Something that a release needs is missing or does not fit together; the message names the remedy."""


@dataclass(frozen=True)
class Version:
    """`text` names the release; `commit` and `committed` say what it was made from.

    `dirty` tells whether files differ from the commit, `remade` whether the pipeline made here something other than the
    commit's `dvc.lock` names, as it does where a processor rounds differently.
    """

    name: str
    text: str
    commit: str
    committed: datetime
    dirty: bool
    remade: bool


def build(root: Path = Path("."), allow_dirty: bool = False) -> Path:
    """Makes the release of the study in `root` and returns its folder; a folder of the same version is replaced.

    Raises ReleaseError if the site is not built, `supplement.SupplementFailed` if the PDF would not be whole,
    `inventory.InventoryError` if a published file is missing or stale, and ReleaseError if a table has no description, or
    if files differ from the commit, unless `allow_dirty`.
    """
    version = version_of(root, allow_dirty)
    html = root / "book" / "_build" / "html"
    if not (html / "index.html").is_file():
        raise ReleaseError(f"{html}/index.html does not exist: the site is not built; run `make book`")
    files = inventory.published(root)
    if not files:
        raise ReleaseError("dvc.lock names no prediction files or tables: the pipeline has not run here; run `make book`")
    if unsaid := cards.undescribed(files, cards.words(root / "book" / "cards.yaml")):
        raise ReleaseError(f"tables without a sentence in book/cards.yaml: {', '.join(unsaid)}; write one for each")
    folder = root / "release" / version.text
    part = folder.with_name(f".{version.text}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _fill(part, root, html, files, version)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def _fill(folder: Path, root: Path, html: Path, files: list[PredictionFile | TableFile], version: Version) -> None:
    stem = f"{version.name}-{version.text}"
    archive(html, sorted(path for path in html.rglob("*") if path.is_file()), folder / f"{stem}-site.zip", f"{stem}-site")
    archive(root, [root / file.path for file in files], folder / f"{stem}-data.zip", f"{stem}-data")
    title = yaml.safe_load((root / "book" / "_config.yml").read_text())["title"]
    edition = supplement.Edition(title, version.text, version.committed)
    supplement.build(root / "book", edition, folder / f"{stem}.pdf")
    write_text(folder / "CITATION.cff", citation(root / "CITATION.cff", version))
    write_text(folder / "manifest.json", json.dumps(manifest(files, version, folder), indent=1) + "\n")
    write_text(folder / "SHA256SUMS", checksums(folder))


def version_of(root: Path, allow_dirty: bool = False) -> Version:
    """The version of the commit that is checked out.

    Raises ReleaseError: no repository, a tag of another version, files that differ from the commit.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    commit = _git(root, "rev-parse", "HEAD")
    tags = [tag for tag in _git(root, "tag", "--points-at", "HEAD").splitlines() if tag.startswith("v")]
    expected = f"v{project['version']}"
    if tags and expected not in tags:
        raise ReleaseError(
            f"the commit has the tag {', '.join(tags)}, but pyproject.toml says version {project['version']}; change one "
            "of them"
        )
    differing = [line[3:] for line in _git(root, "status", "--porcelain").splitlines()]
    changed = [path for path in differing if path != LOCK]
    if changed and not allow_dirty:
        raise ReleaseError(
            f"{len(changed)} files differ from the commit, the first is {changed[0]!r}; commit or remove them, or allow "
            "it with --allow-dirty, which the version then tells"
        )
    local = [] if tags and not changed else [f"g{commit[:7]}", *(["dirty"] if changed else [])]
    text = "+".join([project["version"], *([".".join(local)] if local else [])])
    committed = datetime.fromtimestamp(int(_git(root, "show", "--no-patch", "--format=%ct", "HEAD")), UTC)
    return Version(project["name"], text, commit, committed, bool(changed), LOCK in differing)


def _git(root: Path, *arguments: str) -> str:
    outcome = subprocess.run(["git", "-C", str(root), *arguments], text=True, capture_output=True)
    if outcome.returncode:
        raise ReleaseError(
            f"git {' '.join(arguments)}: {outcome.stderr.strip()}; a release is made in a clone of the repository"
        )
    return outcome.stdout.rstrip("\n")


def archive(base: Path, files: Iterable[Path], out: Path, prefix: str) -> None:
    """Packs files below `base` under the folder `prefix`, so that equal contents are equal bytes."""
    with zipfile.ZipFile(out, "w") as packed:
        for path in files:
            info = zipfile.ZipInfo(f"{prefix}/{path.relative_to(base).as_posix()}", date_time=EPOCH)
            info.external_attr, info.create_system = FILE_MODE, 3  # as on Unix, wherever it is packed
            packed.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def citation(source: Path, version: Version) -> str:
    """The citation file with what only a release knows: version, commit and date. Its comments are for its authors."""
    known = {"version": version.text, "commit": version.commit, "date-released": f"{version.committed:%Y-%m-%d}"}
    return yaml.safe_dump(yaml.safe_load(source.read_text()) | known, sort_keys=False, allow_unicode=True, width=120)


def manifest(files: list[PredictionFile | TableFile], version: Version, folder: Path) -> dict:
    """What the release holds, for machines: its own files so far, and every prediction file and table."""
    held = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.iterdir())}
    return {
        "name": version.name,
        "version": version.text,
        "commit": version.commit,
        "committed_utc": f"{version.committed:%Y-%m-%d %H:%M:%S}",
        "changed_since_commit": version.dirty,
        "results_differ_from_commit": version.remade,
        "files": held,
        "predictions": {str(file.path): _entry(file) for file in files if isinstance(file, PredictionFile)},
        "tables": {str(file.path): _entry(file) for file in files if isinstance(file, TableFile)},
    }


def _entry(file: PredictionFile | TableFile) -> dict:
    entry = asdict(file)
    del entry["path"]
    if isinstance(file, PredictionFile):
        entry["variables"] = {
            name: {"dimensions": dimensions, "shape": shape, "dtype": dtype}
            for name, (dimensions, shape, dtype) in file.variables.items()
        }
    elif file.rows is not None:
        entry["shape"] = [file.rows, len(file.columns)]
    return entry


def checksums(folder: Path) -> str:
    """A line for each file of the folder, as `sha256sum --check` reads it."""
    return "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
