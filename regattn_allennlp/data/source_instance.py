from allennlp.data import Instance


class SourceInstance(Instance):
    """
    An instance that knows where it was read, so that what is wrong with it can be told later: its `place` within the
    source is `"line 3"`. The source itself is what the data loader reads.
    """

    __slots__ = ["place"]

    def __init__(self, instance: Instance, place: str) -> None:
        super().__init__(instance.fields)
        self.place = place
