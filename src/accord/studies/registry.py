"""Which studies there are, each in a file of its own; a file is imported when its study is asked for."""

from __future__ import annotations

from importlib import import_module

from accord.errors import AccordError, nearest
from accord.studies.study import Study

FILES = {
    "E01": "e01_dominance",
    "E02": "e02_loss_scales",
    "E03": "e03_surgery",
    "E04": "e04_learning_rate",
    "E05": "e05_lookahead",
    "E06": "e06_branches",
    "E07": "e07_activations",
    "E08": "e08_image_to_image",
    "E09a": "e09a_acgan",
    "E09b": "e09b_feature_matching",
    "E09c": "e09c_perceptual",
    "E10": "e10_through_time",
    "E11": "e11_pretraining",
    "E11b": "e11b_constructive",
    "E12": "e12_architecture_search",
    "X1": "x1_noise_floor",
    "X2": "x2_harm",
}


def find(name: str) -> Study:
    """A study by its name, upper or lower case.

    Raises:
        AccordError: if there is none.

    Example:
        >>> find("e03").name
        'E03'
    """
    known = {key.lower(): key for key in FILES}
    if name.lower() not in known:
        raise AccordError(f"there is no study {name!r}.{nearest(name, list(FILES))} `accord study list` has them all.")
    found = import_module(f"accord.studies.{FILES[known[name.lower()]]}").STUDY
    assert isinstance(found, Study)
    return found


def every() -> tuple[Study, ...]:
    """All studies in the order of the list."""
    return tuple(find(name) for name in FILES)
