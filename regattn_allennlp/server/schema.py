"""What goes over the wire, whatever the task. The descriptions are the documentation: they are in /openapi.json."""

from typing import Annotated, Any, Generic, Literal, Optional, TypeVar

from pydantic import BaseModel, ConfigDict, Field

# Beyond any use, and small enough for the arithmetic of every operator.
LARGEST_REGULARIZATION = 1e6

# Of a page of examples.
MAX_EXAMPLES = 100

RegularizationValue = Annotated[float, Field(strict=True, allow_inf_nan=False, le=LARGEST_REGULARIZATION)]

Regularization = dict[str, RegularizationValue]

Position = Annotated[int, Field(strict=True, ge=0)]


class SelfAttention(BaseModel):
    """A layer of self-attention."""

    model_config = ConfigDict(extra="forbid")

    direction: str = Field(description='One that an archive has, such as "premise_to_premise".')
    layer: int = Field(ge=0, description="From 0.")


class AttentionRequest(BaseModel):
    """What to predict, by the fields of the task, and what to change for this request alone."""

    model_config = ConfigDict(extra="forbid")

    regularization: dict[str, Regularization] = Field(
        default_factory=dict,
        description=(
            "By archive, by parameter: values for this request in the place of the trained ones. gamma is above 0, "
            "lam 0 or above, alpha 1 or above. What is not given stays as trained."
        ),
    )
    without: dict[str, list[Position]] = Field(
        default_factory=dict,
        description=(
            "By text, the positions, from 0, of words to take out: the models read the text without them. Of an "
            'image, by "regions", the regions to hide.'
        ),
    )
    influence: bool = Field(default=False, description="Whether the answer has gradient x input.")
    self_attention: Optional[SelfAttention] = Field(
        default=None, description="A layer, if the answer is to have its maps, of those archives that have it."
    )


class AttentionMap(BaseModel):
    """What each row attends to. The row and the column of a word that was taken out are all 0."""

    rows: list[str] = Field(description="The words that attend.")
    columns: list[str] = Field(description="The words, or regions, that are attended to.")
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
    boxes: Optional[list[list[float]]] = Field(
        default=None, description="Of each region left, top, right and bottom, as fractions of the image."
    )
    image: Optional[str] = Field(default=None, description="The image's address on this server.")


class ArchiveAnswer(BaseModel):
    """What one archive's model makes of a request."""

    name: str = Field(description="The archive.")
    regularization: dict[str, float] = Field(description="The values that were used, by parameter.")
    words: dict[str, list[str]] = Field(
        description="By text, its words, also those that were taken out; of an image its regions."
    )
    influence: Optional[dict[str, list[float]]] = Field(
        default=None,
        description=(
            "If wanted: gradient x input. By text, for each of its words, what it adds to the log-probability of "
            "what the model says, to first order; 0 for a word that was taken out."
        ),
    )
    self_attention: Optional[list[AttentionMap]] = Field(
        default=None,
        description=(
            "If wanted: the mean of the layer's heads, then each of them. Without the words that were taken out; of "
            "a transformer, of the pieces of words that it reads."
        ),
    )


Answer = TypeVar("Answer", bound=ArchiveAnswer)


class AttentionAnswer(BaseModel, Generic[Answer]):
    """One entry for each archive, in the order of the command line."""

    archives: list[Answer] = Field(description="What each makes of the request.")


class Picture(BaseModel):
    """What of an answer to draw, and how: the fields of `PictureRequest` besides those of a request."""

    view: str = Field(description="One of the task's views.")
    text: int = Field(default=0, ge=0, description="Of which of the texts, from 0, where there are several.")
    format: Literal["svg", "png"] = Field(default="svg", description="What to write.")


class Parameter(BaseModel):
    """A parameter of an archive's regularization."""

    name: str = Field(description='"gamma", "lam" or "alpha".')
    trained: float = Field(description="The value that the model was trained with, or has learned.")
    lower_bound: float = Field(description="No value is below it.")
    may_be_lower_bound: bool = Field(description="False if values must be above `lower_bound`.")
    upper_bound: float = Field(default=LARGEST_REGULARIZATION, description="No value is above it.")
    explanation: str = Field(description="What it does.")


class Archive(BaseModel):
    """A loaded archive."""

    name: str = Field(description="The name that requests use: what tells its path from those of the others.")
    operator: str = Field(description='What makes its attention weights: "softmax", "fusedmax", ...')
    parameters: list[Parameter] = Field(description="The regularization that requests can change.")
    self_attention: dict[str, list[int]] = Field(
        description="By direction, for each layer of self-attention the number of its heads."
    )


class TaskField(BaseModel):
    """A field of requests."""

    name: str = Field(description="Its key.")
    title: str = Field(description="What it is called on the page.")
    is_optional: bool = Field(default=False, description="Whether requests may be without.")
    hint: Optional[str] = Field(default=None, description="What it is for.")
    options: Optional[list[str]] = Field(default=None, description="Values to choose from, of those that there are.")


class View(BaseModel):
    """One of the maps that an answer has."""

    name: str = Field(description="Its key in the answer.")
    title: str = Field(description="What it is called on the page.")
    rows: str = Field(description="Which text attends.")
    columns: str = Field(description="Which is attended to.")


class ServedTask(BaseModel):
    """What requests and answers have of their own."""

    name: str = Field(description="Of the predictor.")
    subject: str = Field(description="A sentence on what is seen.")
    fields: list[TaskField] = Field(description="What requests have.")
    views: list[View] = Field(description="The maps that answers have.")


class ExampleChoices(BaseModel):
    """What `ExamplesQuery` can have. A list is empty where there is nothing to choose."""

    gold: list[str] = Field(description="If they are few.")
    correctness: list[str] = Field(description="If there are gold answers.")
    archive: list[str] = Field(description="If there are several.")
    models: list[str] = Field(description="If there are several; that one is right, if there are gold answers.")
    sort: list[str] = Field(description="Besides the order of the source.")


class Archives(BaseModel):
    """What is loaded, and what it takes."""

    task: ServedTask = Field(description="The task of all archives.")
    archives: list[Archive] = Field(description="In the order of the command line.")
    max_characters: int = Field(description="A text has no more characters.")
    max_tokens: int = Field(description="A text has no more words and punctuation marks.")
    choices: ExampleChoices = Field(description="What examples can be asked for by.")


class ExamplePrediction(BaseModel):
    """What one archive, as it was trained, says of an example."""

    name: str = Field(description="The archive.")
    text: str = Field(description="Its answer.")
    probability: Optional[float] = Field(description="How probable it holds that.")
    is_right: Optional[bool] = Field(description="Whether that is the gold answer, if it is known.")
    zero_fractions: dict[str, float] = Field(
        description="By direction, the share of the attention weights that are exactly 0."
    )


class GivenExample(BaseModel):
    """An example to try."""

    number: int = Field(description="Its place in the source, from 1.")
    inputs: dict[str, Any] = Field(description="By field.")
    gold: Optional[str] = Field(description="What would be right, if that is known.")
    predictions: list[ExamplePrediction] = Field(
        default=[],
        description="One for each archive, in the order of the command line; none until, or unless, it is predicted.",
    )


class ExamplesQuery(BaseModel):
    """Which of the examples, and in which order. What is empty does not matter."""

    model_config = ConfigDict(extra="forbid")

    start: int = Field(default=0, ge=0, description="The first, from 0, of those that are found.")
    count: int = Field(default=8, ge=1, le=MAX_EXAMPLES, description="How many.")
    item: Optional[int] = Field(
        default=None, ge=1, description="A number; in the place of `start`, the page of `count` examples that has it."
    )
    search: str = Field(default="", description="A text that an input or an answer has, whatever its case.")
    gold: str = Field(default="", description='The gold answer; "none" for examples without.')
    predicted: str = Field(default="", description="An answer that a model gives.")
    correctness: str = Field(default="", description='"correct" or "wrong": whether a model gives the gold answer.')
    archive: str = Field(
        default="",
        description="The archive that `predicted`, `correctness` and `sort` are about; else any, and the mean of all.",
    )
    models: str = Field(default="", description='"disagree", or "A right, B wrong" of two archives.')
    sort: str = Field(
        default="",
        description='An order, such as "least confident first"; else that of the source. See /api/archives.',
    )
    direction: str = Field(default="", description="Whose weights tell how sparse an example is; else the first.")


class Examples(BaseModel):
    """A page of the examples that the server was started with."""

    found: int = Field(description="How many there are in all, of those that were asked for.")
    start: int = Field(description="The place of the page's first among them, from 0.")
    examples: list[GivenExample] = Field(description="Those of the page.")
    total: int = Field(description="How many there are, whatever is asked for.")
    predicted: int = Field(
        description="Of how many the models have been asked so far. Others are in no filter by answers, and last in "
        "any order."
    )
    answers: list[str] = Field(description="Which answers they gave, if they are few.")


class Problem(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: str = Field(description="What is wrong with the request, and what would be right.")
    field: Optional[str] = Field(default=None, description="The field that is wrong, if it is one.")
