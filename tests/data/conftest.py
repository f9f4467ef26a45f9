import datasets
import huggingface_hub
import pytest
from allennlp.common import file_utils


@pytest.fixture(autouse=True)
def caches_in_a_temporary_folder(tmp_path_factory, monkeypatch):
    """
    Leaves nothing in the home folder and asks nothing of the network. The libraries read the environment when they
    are imported, so their constants are set here, and the environment for the processes that a test spawns.
    """
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "datasets"))
    monkeypatch.setattr(file_utils, "CACHE_DIRECTORY", str(folder / "allennlp"))
    monkeypatch.setenv("ALLENNLP_CACHE_ROOT", str(folder))
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
