import os

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st

from regattn_allennlp.predictors.archives import archive_names, load_predictors, read_config


@pytest.mark.parametrize(
    "paths, names",
    [
        (["output/softmax/model.tar.gz"], ["softmax"]),
        (["output/softmax", "output/fusedmax/model.tar.gz"], ["softmax", "fusedmax"]),
        (["output/softmax/seed1", "output/fusedmax/seed1"], ["softmax", "fusedmax"]),
        (["out/softmax/1", "out/fusedmax/1", "out/fusedmax/2"], ["softmax/1", "fusedmax/1", "2"]),
        (["one.tar.gz", "two.tar.gz"], ["one", "two"]),
    ],
)  # fmt: skip
def test_names_are_what_differs(paths, names):
    assert archive_names(paths) == names


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), min_size=1, unique=True))
def test_names_differ_and_are_of_the_paths(paths):
    names = archive_names(paths)
    assert len(set(names)) == len(names)
    assert all(f"/{name}/" in f"{os.path.abspath(path)}/" for name, path in zip(names, paths, strict=True))


def test_an_archive_given_twice_is_named():
    with pytest.raises(ConfigurationError, match=r"output/softmax.*twice"):
        archive_names(["output/softmax", "output/softmax/model.tar.gz"])


def test_a_folder_and_its_file_are_one_archive(archive):
    assert read_config(str(archive)) == read_config(str(archive.parent))
    assert read_config(str(archive))["model"]["attention"]["type"] == "fusedmax"
    pair = {"premise": "A dog runs.", "hypothesis": "An animal runs."}
    predictions = [load_predictors([str(path)])[0].predictor.predict_json(pair) for path in (archive, archive.parent)]
    assert predictions[0] == predictions[1]


@pytest.mark.parametrize("make", ["nothing", "an empty folder", "no archive"])
def test_what_is_no_archive_is_named(tmp_path, make):
    path = tmp_path / "model.tar.gz"
    if make == "an empty folder":
        path.mkdir()
    elif make == "no archive":
        path.write_text("{}")
    for load in (read_config, lambda path: load_predictors([path])):
        with pytest.raises(ConfigurationError, match=f'{path}" is no archive .*`allennlp train -s` wrote'):
            load(str(path))
