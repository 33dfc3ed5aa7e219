"""The citation file keeps to its format, and the workflows run only what exists, with no secret and no strange address."""

import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OFFICIAL = {"checkout", "setup-python", "upload-artifact", "upload-pages-artifact", "deploy-pages"}
OF_THE_MACHINE = {"sudo", "command", "cd", "sha256sum", "gh"}

# What Citation File Format 1.2.0 asks of the fields used here; a field that is missing from this list is an error, too.
TEXT = {"type": "string", "minLength": 1}
ENTITY = {"type": "object", "required": ["name"], "properties": {"name": TEXT}, "additionalProperties": False}
PERSON = {
    "type": "object",
    "required": ["family-names"],
    "properties": {"family-names": TEXT, "given-names": TEXT, "orcid": TEXT},
    "additionalProperties": False,
}
AUTHORS = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"anyOf": [PERSON, ENTITY]}}
ADDRESS = {"type": "string", "pattern": "^(https|http|ftp|sftp)://.+"}
REFERENCE = {
    "type": "object",
    "required": ["authors", "title", "type"],
    "properties": {
        "type": {"enum": ["article", "book", "conference-paper", "software", "data", "generic"]},
        "title": TEXT,
        "authors": AUTHORS,
        "collection-title": TEXT,
        "volume": {"type": "integer"},
        "year": {"type": "integer"},
        "notes": TEXT,
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["authors", "cff-version", "message", "title"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "title": TEXT,
        "message": TEXT,
        "abstract": TEXT,
        "authors": AUTHORS,
        "version": TEXT,
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        "references": {"type": "array", "minItems": 1, "uniqueItems": True, "items": REFERENCE},
        "license": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": TEXT}]},
        "doi": {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/\S+$"},
        "repository-code": ADDRESS,
        "url": ADDRESS,
        "commit": TEXT,
        "date-released": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    },
    "additionalProperties": False,
}


def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def targets() -> set[str]:
    return set(re.findall(r"^([a-z$()A-Z/]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {".venv/ready"}


def workflow(path: Path) -> dict:
    # YAML 1.1 reads the key `on` as a truth value
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(path: Path) -> list[dict]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[list[str]]:
    lines = [line for step in steps(path) for line in step.get("run", "").splitlines()]
    return [shlex.split(part) for line in lines for part in re.split(r"&&|\|\|", line)]


def faults_of_command(words: list[str]) -> list[str]:
    """Whether a command of a workflow is there to be run: a target of the Makefile, a script, a program of the machine."""
    first, *rest = words
    if first == "make":
        return [f"make has no target {name}" for name in rest if name not in targets()]
    if first == ".venv/bin/python":
        return [] if (ROOT / rest[0]).is_file() else [f"there is no {rest[0]}"]
    return [] if first in OF_THE_MACHINE else [f"unknown command {first}"]


def test_the_citation_file_keeps_to_its_format():
    jsonschema.validate(citation(), SCHEMA)


@pytest.mark.parametrize(
    "changes", [{"authors": []}, {"doi": "doi.org/10.1/x"}, {"autors": [{"name": "x"}]}, {"message": ""}]
)
def test_the_schema_refuses_what_the_format_does(changes):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(citation() | changes, SCHEMA)


def test_the_version_to_be_cited_is_that_of_the_package():
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert citation()["version"] == declared


def test_what_the_citation_refers_to_stands_in_the_bibliography():
    bibliography = re.sub(r"[{}]", "", (ROOT / "book" / "references.bib").read_text()).lower()
    assert [entry["title"] for entry in citation()["references"] if entry["title"].lower() not in bibliography] == []


def test_there_is_a_workflow_for_changes_and_one_for_tags():
    triggers = {path.stem: workflow(path)["on"] for path in WORKFLOWS}
    assert triggers.keys() == {"tests", "publish"}
    assert triggers["tests"].keys() == {"push", "pull_request"} and "tags" not in triggers["tests"]["push"]
    assert triggers["publish"] == {"push": {"tags": ["v*"]}}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_command_of_a_workflow_exists(path):
    assert [fault for words in commands(path) for fault in faults_of_command(words)] == []


@pytest.mark.parametrize("words", [["make", "boko"], [".venv/bin/python", "tests/gone.py"], ["curl", "x"]])
def test_a_command_that_does_not_exist_is_noticed(words):
    assert faults_of_command(words)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_official_ones_of_a_fixed_version(path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used and [name for name in used if not re.fullmatch(rf"actions/({'|'.join(OFFICIAL)})@v\d+", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_workflow_needs_a_secret_or_names_an_address(path):
    text = path.read_text()
    assert "secrets." not in text and "://" not in text
    assert set(re.findall(r"github\.token|GITHUB_TOKEN", text)) <= {"github.token"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_may_write_only_what_it_publishes(path):
    jobs = workflow(path)["jobs"]
    assert workflow(path)["permissions"] == {"contents": "read"}
    allowed = {"release": {"contents": "write"}, "pages": {"pages": "write", "id-token": "write"}}
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        name: allowed[name] for name in jobs if name in allowed
    }


def test_a_change_is_tested_as_the_whole_is_tested_from_nothing():
    from_nothing = re.findall(
        r"^timed (?:make (\S+)|(\.venv/bin/python tests\S*) .*)", (ROOT / ".ci/run").read_text(), re.MULTILINE
    )
    expected = [make or script for make, script in from_nothing]
    run = [" ".join(words) for words in commands(ROOT / ".github/workflows/tests.yml")]
    ours = [line.removeprefix("make ") for line in run if line.startswith("make ")]
    ours += [" ".join(line.split()[:2]) for line in run if line.startswith(".venv/bin/python")]
    assert ours == expected and len(expected) == 5


def test_a_tag_is_tested_before_it_is_published_and_its_files_are_checked():
    run = [" ".join(words) for words in commands(ROOT / ".github/workflows/publish.yml")]
    assert (
        run.index("make test")
        < run.index("make book")
        < run.index("make release")
        < run.index("sha256sum --check SHA256SUMS")
    )
    assert workflow(ROOT / ".github/workflows/publish.yml")["jobs"]["pages"]["needs"] == "release"
