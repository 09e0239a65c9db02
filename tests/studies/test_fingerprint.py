"""The fingerprint of a measurement: what changes it and what does not."""

from __future__ import annotations

import pytest

from accord.studies import fingerprint as module
from accord.studies.fingerprint import fingerprint

TEXT = '''
"""A study."""
from accord.studies.two_digits import data
LIMIT = 3
THRESHOLD = 5

def helper(x):
    """Help."""
    return x + LIMIT

def measure(work):
    # a comment
    return helper(1), data

def judge(results):
    return THRESHOLD
'''


@pytest.fixture
def of(tmp_path, monkeypatch):
    """The fingerprint of a text as a module of one name, since the name is hashed as well."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(text: str) -> str:
        (tmp_path / "study_of_a_test.py").write_text(text)
        return fingerprint("study_of_a_test")

    return made


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("LIMIT = 3", "LIMIT = 4", True),
        ("x + LIMIT", "x - LIMIT", True),
        ("helper(1)", "helper(2)", True),
        ("THRESHOLD = 5", "THRESHOLD = 6", False),
        ('"""Help."""', '"""Other words."""', False),
        ("# a comment", "# another one", False),
        ("return THRESHOLD", "return 2 * THRESHOLD", False),
        ("return helper(1), data", "judge = 1\n    return helper(judge), data", True),
        ("two_digits import data", "two_digits import train as data", True),
    ],
)
def test_what_measures_counts_and_nothing_else(of, old, new, changes):
    assert old in TEXT
    assert (of(TEXT) != of(TEXT.replace(old, new))) == changes


def test_what_is_shared_between_studies_counts(monkeypatch):
    """E01 trains with ``two_digits.train``: a change there must show."""
    found, original = set(), module._names
    monkeypatch.setattr(module, "_names", lambda name: found.add(name) or original(name))
    fingerprint("accord.studies.e01_dominance")
    assert "accord.studies.two_digits" in found
    assert "accord.studies.judging" not in found


def test_a_local_name_is_not_what_the_file_calls_so(of):
    """``judge`` in ``measure`` may be a net: the rules of judgement are still none of its business."""
    text = TEXT.replace("return helper(1), data", "judge = 1\n    return [helper(judge) for THRESHOLD in data]")
    assert of(text) == of(text.replace("THRESHOLD = 5", "THRESHOLD = 6"))
    assert of(text) == of(text.replace("return THRESHOLD", "return None"))


def test_defaults_decorators_and_bases_count(of):
    text = TEXT.replace(
        "def helper(x):",
        "class Base:\n    size = THRESHOLD\n\nclass Part(Base):\n    pass\n\ndef helper(x, part=Part):",
    )
    assert of(text) != of(text.replace("THRESHOLD = 5", "THRESHOLD = 6"))
