import re

import pytest

ARCHIVE = "a trained model: the folder that `allennlp train -s` wrote, or the model.tar.gz in it"
SHARED = {
    "--cuda-device ID": "the GPU to use, -1 for the CPU (default = -1)",
    "--batch-size N": "items to predict at a time",
    "--debug": "show the traceback of a mistake",
}


@pytest.mark.parametrize("command", ["compare-attention", "serve-attention", "show-attention", "train-subwords"])
def test_help_fits_a_terminal_and_says_each_default_once(allennlp, capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        allennlp(command, "--help")
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if len(line) > 80] == []
    options = re.split(r"\n  (?=-)", printed[printed.index("\noptions:") :])
    assert len(options) > 5
    assert [option for option in options if option.count("(default") > 1] == []
    # A command is shown as it is to be typed.
    assert re.search(rf"\n +allennlp {command} .*\n", printed)
    words = " ".join(printed.split())
    for option, text in SHARED.items():
        assert option not in words[words.index("options:") :] or f"{option} {text}" in words, option
    assert command not in ("serve-attention", "show-attention") or f"ARCHIVE {ARCHIVE}" in words
