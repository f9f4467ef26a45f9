from regattn_allennlp.data.token_links import TokenLinks, gold_links

LINKS = TokenLinks(frozenset({(0, 1)}), frozenset({(0, 1), (2, 0)}), ((0,), (0,), (2,)), ((), (0,), (1,)))


def test_what_is_transposed_is_of_the_other_text():
    assert LINKS.transposed() == TokenLinks(
        frozenset({(1, 0)}), frozenset({(1, 0), (0, 2)}), ((), (0,), (1,)), ((0,), (0,), (2,))
    )
    assert LINKS.transposed().transposed() == LINKS


def test_a_batch_has_gold_links_if_all_of_its_items_do():
    assert gold_links([{"gold_links": LINKS}, {"gold_links": LINKS.transposed()}]) == [LINKS, LINKS.transposed()]
    assert gold_links([{"gold_links": LINKS}, {"source": "a"}]) is None
    assert gold_links(None) is None
