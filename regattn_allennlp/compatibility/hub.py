"""The Hugging Face hub."""

from pathlib import Path
from typing import Any, Optional, Union

from regattn_allennlp.compatibility.mend import mend


class _Token:
    """What AllenNLP uses of the former `HfFolder`."""

    @staticmethod
    def get_token() -> str:
        from allennlp.common.checks import ConfigurationError
        from huggingface_hub import get_token

        token = get_token()
        if token is None:
            raise ConfigurationError(
                "there is no token for the Hugging Face hub: log in with `hf auth login`, or set HF_TOKEN"
            )
        return token


class _Repositories:
    """What AllenNLP uses of the `HfApi`, with the arguments of 2022."""

    def create_repo(self, name: str, token: str, organization: Optional[str], **kwargs: Any) -> str:
        from huggingface_hub import HfApi

        repository = name if organization is None else f"{organization}/{name}"
        return HfApi().create_repo(repository, token=token, **kwargs)


class _RepositoryFolder:
    """What AllenNLP uses of the former `Repository`, which was a clone by git: a folder that is pushed over HTTP."""

    def __init__(self, local_dir: Union[str, Path], clone_from: Any, use_auth_token: Union[bool, str]) -> None:
        self._folder = local_dir
        self._repository = clone_from.repo_id
        self._token = use_auth_token

    def git_pull(self, rebase: bool) -> None:
        """Only the model card, which AllenNLP writes anew. Other files stay as they are unless they are replaced."""
        from huggingface_hub import snapshot_download

        snapshot_download(self._repository, local_dir=self._folder, allow_patterns="README.md", token=self._token)
        Path(self._folder).mkdir(parents=True, exist_ok=True)

    def lfs_track(self, patterns: list[str]) -> None:
        """The hub decides which files are large."""

    def push_to_hub(self, commit_message: str) -> None:
        from huggingface_hub import HfApi

        HfApi().upload_folder(
            repo_id=self._repository, folder_path=self._folder, commit_message=commit_message, token=self._token
        )


_PUSH_TEST = "tests/compatibility/hub_test.py::test_a_trained_model_is_pushed_to_the_hub"


@mend(
    "huggingface_hub",
    puts_back="AllenNLP imports with huggingface_hub from 1.0 on",
    versions="huggingface-hub>=1",
    test=_PUSH_TEST,
)
def put_back_names(huggingface_hub: Any) -> None:
    huggingface_hub.HfFolder = _Token
    huggingface_hub.Repository = _RepositoryFolder


@mend(
    "allennlp.common.push_to_hf",
    puts_back="`allennlp push-to-hf`, over HTTP: it needs no git",
    versions="huggingface-hub>=0.30",
    test=_PUSH_TEST,
)
def push_without_git(push_to_hf: Any) -> None:
    push_to_hf.HfApi = _Repositories
    push_to_hf.HfFolder = _Token
    push_to_hf.Repository = _RepositoryFolder
