"""What a memory says is shown, and does nothing."""

import unicodedata

import pytest

from aico.cli._show import printable

TURNING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]


@pytest.mark.parametrize("code", TURNING, ids=lambda code: unicodedata.name(chr(code)))
def test_a_character_that_turns_the_order_of_letters_is_shown_as_its_picture(code: int) -> None:
    assert printable(f"gepj{chr(code)}exe") == "gepj\N{REPLACEMENT CHARACTER}exe"


def test_every_control_character_but_line_break_and_tab_is_shown_and_all_letters_stay() -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"]
    assert [one for one in controls if printable(one) == one] == ["\t", "\n"]
    assert printable("שלום, 你好, e\u0301\u200f") == "שלום, 你好, e\u0301\u200f"
