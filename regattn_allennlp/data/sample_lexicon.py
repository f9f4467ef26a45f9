"""
The lexicon of the embedded sample: taxonomies of words and phrases, and the frames that combine them.

A taxonomy maps a term to groups of its hyponyms. The terms in one group exclude one another (a dog is no cat), the
terms of different groups are compatible (a doctor may be a woman). A term in capitals only structures its taxonomy
and never appears in a sentence. An underscore stands for a space.
"""

from typing import NamedTuple

GARMENT_COLOURS = ("red", "blue", "green", "white")
GARMENTS = ("coat", "hat", "shirt")

TAXONOMIES: dict[str, dict[str, list[str]]] = {
    # Nouns
    "person": {
        "person": ["adult child"],
        "adult": ["man woman", "doctor teacher farmer"],
        "child": ["boy girl"],
    },
    "animal": {
        "animal": ["dog cat bird horse"],
        "dog": ["poodle terrier beagle"],
        "cat": ["tabby"],
        "bird": ["sparrow duck"],
        "horse": ["pony"],
    },
    "snack": {
        "snack": ["piece_of_fruit sandwich cookie pancake"],
        "piece_of_fruit": ["apple banana pear orange"],
    },
    "instrument": {
        "instrument": ["guitar violin piano drum"],
    },
    "book": {
        "book": ["novel cookbook dictionary atlas"],
    },
    "vehicle": {
        "vehicle": ["car truck bus tractor"],
        "car": ["taxi convertible"],
    },
    "plant": {
        "plant": ["flower tree"],
        "flower": ["rose tulip daisy"],
        "tree": ["oak pine"],
    },
    "container": {
        "container": ["cup bowl bottle box bag"],
        "cup": ["mug teacup"],
    },
    "piece_of_furniture": {
        "piece_of_furniture": ["chair table sofa bed"],
        "chair": ["armchair stool"],
        "table": ["desk"],
    },
    "opening": {
        "OPENING": ["door window gate"],
    },
    # What people, animals and things do or are
    "person_activity": {
        "ACTIVITY": ["AWAKE sleeping"],
        "AWAKE": ["moving sitting standing", "talking singing", "laughing crying"],
        "moving": ["walking running dancing"],
        "walking": ["strolling"],
        "running": ["jogging sprinting"],
        "talking": ["shouting whispering"],
        "sleeping": ["napping"],
    },
    "animal_activity": {
        "ACTIVITY": ["AWAKE sleeping"],
        "AWAKE": ["moving sitting standing", "eating drinking"],
        "moving": ["walking running jumping"],
        "running": ["racing"],
        "sleeping": ["napping"],
    },
    "interaction": {"INTERACTION": ["following pushing pulling avoiding"], "following": ["chasing"]},
    "snack_activity": {"ACTIVITY": ["eating buying selling dropping"]},
    "instrument_activity": {"ACTIVITY": ["playing repairing buying selling"]},
    "book_activity": {"ACTIVITY": ["reading buying selling burning"]},
    "vehicle_activity": {"ACTIVITY": ["driving washing repairing painting"]},
    "plant_activity": {"ACTIVITY": ["watering planting painting photographing"]},
    "container_activity": {"ACTIVITY": ["washing filling emptying painting"]},
    "furniture_activity": {"ACTIVITY": ["carrying building repairing painting"]},
    "opening_activity": {"ACTIVITY": ["opening closing cleaning painting"]},
    "vehicle_state": {"STATE": ["clean dirty", "wet dry"], "dirty": ["filthy"], "wet": ["soaked"]},
    "container_state": {"STATE": ["full empty", "clean dirty"], "dirty": ["filthy"]},
    "opening_state": {"STATE": ["open closed", "clean dirty"], "closed": ["locked"], "dirty": ["filthy"]},
    # Modifiers
    "mood": {"MOOD": ["happy sad"], "happy": ["overjoyed"], "sad": ["miserable"]},
    "height": {"HEIGHT": ["tall short"]},
    "clothes": {
        # One may wear a coat and a hat: each is a group of its own.
        "CLOTHES": [f"in_a_{garment}" for garment in GARMENTS],
        **{
            f"in_a_{garment}": [" ".join(f"in_a_{colour}_{garment}" for colour in GARMENT_COLOURS)]
            for garment in GARMENTS
        },
    },
    "size": {"SIZE": ["big small"], "big": ["huge"], "small": ["tiny"]},
    "youth": {"YOUTH": ["young old"]},
    "age": {"AGE": ["new old"]},
    "price": {"PRICE": ["cheap expensive"]},
    "freshness": {"FRESHNESS": ["fresh stale"]},
    "health": {"HEALTH": ["healthy withered"]},
    "fur": {"FUR": ["black brown grey"]},
    "colour": {"COLOUR": ["black yellow silver"]},
    "material": {"MATERIAL": ["wooden plastic metal"]},
    "number": {"some": ["two three four"]},
    "place": {
        "PLACE": ["outside inside"],
        "outside": ["in_the_park in_the_garden in_the_street on_the_beach in_the_forest"],
        "inside": ["in_the_house in_the_library in_the_museum"],
        "in_the_house": ["in_the_kitchen in_the_bedroom"],
    },
    "outdoor_place": {
        "outside": ["in_the_park in_the_garden in_the_street on_the_beach in_the_forest"],
    },
    "time_of_day": {
        "TIME": ["during_the_day at_night"],
        "during_the_day": ["in_the_morning at_noon in_the_afternoon"],
        "at_night": ["at_midnight"],
    },
    "season": {"SEASON": ["in_spring in_summer in_autumn in_winter"]},
    "week": {"WEEK": ["on_a_weekday on_the_weekend"]},
}

# The modifiers that a noun of a taxonomy can have, in the order in which they are written before it; "clothes" follow.
MODIFIERS: dict[str, tuple[str, ...]] = {
    "person": ("mood", "height", "clothes"),
    "animal": ("size", "youth", "fur"),
    "snack": ("size", "freshness"),
    "instrument": ("price", "age", "colour"),
    "book": ("price", "age", "colour"),
    "vehicle": ("size", "age", "colour"),
    "plant": ("size", "health"),
    "container": ("size", "colour", "material"),
    "piece_of_furniture": ("size", "age", "material"),
    "opening": ("size", "colour", "material"),
}

TIMES = ("time_of_day", "season", "week")

IRREGULAR_PLURALS = {"person": "people", "man": "men", "woman": "women", "child": "children"}


class Frame(NamedTuple):
    """
    A sentence pattern: who does or is what (to whom), and where; the fields name taxonomies.

    A frame without a place has no time either.
    """

    weight: int  # relative frequency
    subject: str
    predicate: str
    object: str | None
    place: str | None


FRAMES: tuple[Frame, ...] = (
    Frame(18, "person", "person_activity", None, "place"),
    Frame(16, "animal", "animal_activity", None, "outdoor_place"),
    Frame(4, "person", "interaction", "person", "place"),
    Frame(3, "person", "interaction", "animal", "outdoor_place"),
    Frame(3, "animal", "interaction", "person", "outdoor_place"),
    Frame(2, "animal", "interaction", "animal", "outdoor_place"),
    Frame(6, "person", "snack_activity", "snack", "place"),
    Frame(6, "person", "instrument_activity", "instrument", "place"),
    Frame(6, "person", "book_activity", "book", "place"),
    Frame(6, "person", "vehicle_activity", "vehicle", "outdoor_place"),
    Frame(6, "person", "plant_activity", "plant", "outdoor_place"),
    Frame(5, "person", "container_activity", "container", "place"),
    Frame(5, "person", "furniture_activity", "piece_of_furniture", "place"),
    Frame(4, "person", "opening_activity", "opening", None),
    Frame(5, "vehicle", "vehicle_state", None, "outdoor_place"),
    Frame(5, "container", "container_state", None, "place"),
    Frame(5, "opening", "opening_state", None, None),
)
