import random

import numpy as np
import torch

from regattn_allennlp.compatibility.training_state.random_states import random_states, set_random_states


def drawn() -> list[float]:
    # Gaussian numbers come in pairs, of which the second is kept.
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]


def test_states_of_a_file_draw_the_same_again(tmp_path):
    cpu = torch.device("cpu")
    drawn()
    torch.save(random_states(cpu), tmp_path / "states")
    expected = [drawn(), drawn()]
    assert drawn() not in expected
    set_random_states(torch.load(tmp_path / "states", weights_only=True), cpu)
    assert [drawn(), drawn()] == expected
    set_random_states(torch.load(tmp_path / "states", weights_only=True), cpu)
    assert [drawn(), drawn()] == expected
