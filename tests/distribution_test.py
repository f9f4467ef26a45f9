"""The source distribution, and the wheel that is built from it."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import PROJECT_ROOT

PACKAGED = ("regattn_allennlp", "training_configs", "docs", "README.md", "LICENSE", "setup.cfg", "pyproject.toml")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    # Of a copy: what setuptools leaves beside the sources would be in the next wheel too.
    project = tmp_path_factory.mktemp("project")
    for name in PACKAGED:
        if (PROJECT_ROOT / name).is_dir():
            no_leftovers = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT_ROOT / name, project / name, symlinks=True, ignore=no_leftovers)
        else:
            shutil.copy(PROJECT_ROOT / name, project)
    shutil.copy(PROJECT_ROOT / "regattn_allennlp_autoload.py", project)
    # The wheel is built from the source distribution. Without isolation nothing is downloaded.
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", project], check=True, capture_output=True)
    return project / "dist"


@pytest.fixture(scope="module")
def wheel(distributions) -> zipfile.ZipFile:
    (path,) = distributions.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_twine_finds_nothing_wrong(distributions):
    files = sorted(distributions.iterdir())
    assert len(files) == 2
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)


def test_the_wheel_has_all_that_is_in_the_package_and_the_configs(wheel):
    packaged = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(PROJECT_ROOT).as_posix(): path.read_bytes()
        for path in (PROJECT_ROOT / "regattn_allennlp").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path in (PROJECT_ROOT / "training_configs").rglob("*.*sonnet"):
        expected[f"regattn_allennlp/{path.relative_to(PROJECT_ROOT).as_posix()}"] = path.read_bytes()
    expected["regattn_allennlp_autoload.py"] = (PROJECT_ROOT / "regattn_allennlp_autoload.py").read_bytes()
    assert sorted(packaged) == sorted(expected)
    assert packaged == expected


def test_the_source_distribution_has_the_configs_as_files(distributions):
    # Where links cannot be made, as on some systems, a link would be no folder of configs.
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert members["regattn_allennlp/training_configs/sample/fusedmax.jsonnet"].isfile()


def test_the_index_page_has_no_dead_links(metadata):
    description = metadata.get_payload()
    assert "pip install regattn_allennlp" in description
    for target in re.findall(r"\]\(([^)]+)\)", description):
        assert target.startswith("https://")
    assert "<img" not in description and "![" not in description
    for url in metadata.get_all("Project-URL"):
        assert re.fullmatch(r"\w+, https://\S+", url)


def test_the_metadata_names_the_versions_of_python(metadata):
    versions = {f"3.{minor}" for minor in range(10, 16)}
    assert {value.rpartition(" :: ")[2] for value in metadata.get_all("Classifier") if ":: 3." in value} == versions
    assert metadata["Requires-Python"] == "<3.16,>=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
