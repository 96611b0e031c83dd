"""Training texts in both forms of Unicode are told; of one form they are what they are."""

import pytest

from components.datasets.unicode_forms import UnicodeForms

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([(COMPOSED, "a"), (APART, "b")], True),
        ([COMPOSED, APART, APART], True),
        ([([COMPOSED], ["O"]), ([APART], ["O"])], True),
        ([COMPOSED, "plain"], False),
        ([APART, "plain", "你好 😀"], False),
        ([("plain", 3.0), None], False),
    ],
)
def test_two_ways_to_write_a_letter_are_told(items, told) -> None:
    forms = UnicodeForms()
    for item in items:
        forms.add(item)
    assert bool(forms.notes()) is told
    assert not told or "é and e\u0301 differ" in forms.notes()[0]
