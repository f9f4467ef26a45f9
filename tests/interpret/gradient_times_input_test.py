import pytest
import torch
from allennlp.predictors import Predictor

from regattn_allennlp.interpret.gradient_times_input import gradient_times_input

PAIR = {"premise": "A dog is sleeping in the garden.", "hypothesis": "An animal is outside."}


def test_the_values_of_a_linear_score_are_its_terms():
    embedder, weights = torch.nn.Embedding(5, 3), torch.randn(3)
    words, others = torch.tensor([[1, 4, 1]]), torch.randn(1, 2, 3, requires_grad=True)
    of_words, of_others = gradient_times_input(
        embedder, lambda: ((embedder(words).sum(1) + others.sum(1)) @ weights).sum(), [others]
    )
    torch.testing.assert_close(of_words, embedder(words).detach() @ weights)
    torch.testing.assert_close(of_others, others.detach() @ weights)


def test_influence_is_what_a_word_made_a_little_longer_adds_to_the_log_probability(archive):
    predictor = Predictor.from_path(str(archive), "entailment")
    model = predictor._model.double()
    embedder = predictor.get_interpretable_text_field_embedder()
    influence = predictor.influence(predictor._json_to_instance(PAIR))
    label = predictor.predict_json(PAIR)["label"]

    def log_probability(text: str, position: int, factor: float) -> float:
        """Of the pair in which a word's vector is so many times as long."""
        calls = iter(PAIR)

        def lengthen(module, arguments, vectors):
            if next(calls) == text:
                vectors[:, position] *= factor
            return vectors

        hook = embedder.register_forward_hook(lengthen)
        try:
            output = model(**predictor._tensors([predictor._json_to_instance(PAIR)]))
        finally:
            hook.remove()
        return output["label_logits"][0].log_softmax(-1)[model.vocab.get_token_index(label, "labels")].item()

    step = 1e-6  # small: the slope is another one where words begin to share a weight
    for text, of_words in influence.items():
        with torch.no_grad():
            slopes = [
                (log_probability(text, position, 1 + step) - log_probability(text, position, 1 - step)) / (2 * step)
                for position in range(len(of_words))
            ]
        assert of_words == pytest.approx(slopes, abs=1e-5)
        assert max(map(abs, of_words)) > 1e-3
