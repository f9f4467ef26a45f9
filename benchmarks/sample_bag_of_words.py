"""
How much of the embedded sample a bag of words tells: the validation accuracy of a logistic regression that sees the
words of the hypothesis alone, of the premise alone, or of both. Chance is 1/3.

    python benchmarks/sample_bag_of_words.py
"""

from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from regattn_allennlp.data.sample_corpus import sample_pairs


def main() -> None:
    train, validation = sample_pairs("train"), sample_pairs("validation")
    features = {}
    for sentence in ("hypothesis", "premise"):
        vectorizer = CountVectorizer(token_pattern=r"\S+")
        features[sentence] = (
            vectorizer.fit_transform([getattr(pair, sentence) for pair in train]),
            vectorizer.transform([getattr(pair, sentence) for pair in validation]),
        )
    features["both"] = tuple(map(hstack, zip(features["hypothesis"], features["premise"], strict=True)))
    for name, (of_train, of_validation) in features.items():
        classifier = LogisticRegression(max_iter=1000).fit(of_train, [pair.label for pair in train])
        accuracy = classifier.score(of_validation, [pair.label for pair in validation])
        print(f"{name}: {accuracy:.3f}")


if __name__ == "__main__":
    main()
