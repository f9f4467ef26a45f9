"""What goes over the wire. The descriptions are the documentation: they are in /openapi.json."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Beyond any use, and small enough for the arithmetic of every operator.
LARGEST_REGULARIZATION = 1e6

RegularizationValue = Annotated[float, Field(strict=True, allow_inf_nan=False, le=LARGEST_REGULARIZATION)]

Regularization = dict[str, RegularizationValue]


class AttentionRequest(BaseModel):
    """A pair of sentences, and what to change of the archives' regularization."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "premise": "A small dog is sleeping in the garden.",
                    "hypothesis": "An animal is outside.",
                    "regularization": {"fusedmax": {"gamma": 0.5, "lam": 0.2}},
                }
            ]
        },
    )

    premise: str = Field(description="The sentence that is taken to be true. Not blank.")
    hypothesis: str = Field(description="The sentence that may follow from it. Not blank.")
    regularization: dict[str, Regularization] = Field(
        default_factory=dict,
        description=(
            "By archive, by parameter: values for this request in the place of the trained ones. gamma is above 0, "
            "lam 0 or above, alpha 1 or above. What is not given stays as trained."
        ),
    )


class AttentionMap(BaseModel):
    """What the words of one sentence attend to in the other."""

    rows: list[str] = Field(description="The words that attend.")
    columns: list[str] = Field(description="The words that are attended to.")
    weights: list[list[float]] = Field(description="One list of weights for each row; each sums to 1.")
    groups: list[list[list[tuple[int, int]]]] = Field(
        description=(
            "For each row the groups of columns, with at least two words that are different to the model, that share "
            "exactly one weight that is not 0, larger weights first; a group is its runs of neighbouring columns, "
            "each [first, one after the last], from 0."
        )
    )
    unknown_rows: list[int] = Field(description="Which rows, from 0, are words that the model does not know.")
    unknown_columns: list[int] = Field(description="Which columns, from 0, are words that the model does not know.")
    right_to_left: bool = Field(description="Whether the columns' sentence is read from right to left.")


class ArchiveAttention(BaseModel):
    """What one archive's model makes of the pair."""

    name: str = Field(description="The archive.")
    label: str = Field(description="The most probable label.")
    probabilities: dict[str, float] = Field(description="By label; they sum to 1.")
    regularization: dict[str, float] = Field(description="The values that were used, by parameter.")
    premise_to_hypothesis: AttentionMap = Field(description="What each word of the premise attends to.")
    hypothesis_to_premise: AttentionMap = Field(description="What each word of the hypothesis attends to.")


class AttentionAnswer(BaseModel):
    """One entry for each archive, in the order of the command line."""

    archives: list[ArchiveAttention]


class Parameter(BaseModel):
    """A parameter of an archive's regularization."""

    name: str = Field(description='"gamma", "lam" or "alpha".')
    trained: float = Field(description="The value that the model was trained with, or has learned.")
    lower_bound: float = Field(description="No value is below it.")
    may_be_lower_bound: bool = Field(description="False if values must be above `lower_bound`.")


class Archive(BaseModel):
    """A loaded archive."""

    name: str = Field(description="The name that requests use: what tells its path from those of the others.")
    operator: str = Field(description='What makes its attention weights: "softmax", "fusedmax", ...')
    parameters: list[Parameter] = Field(description="The regularization that requests can change.")


class Archives(BaseModel):
    """What is loaded, and what it takes."""

    archives: list[Archive] = Field(description="In the order of the command line.")
    max_characters: int = Field(description="A sentence has no more characters.")
    max_tokens: int = Field(description="A sentence has no more words and punctuation marks.")


class Problem(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: str = Field(description="What is wrong with the request, and what would be right.")
