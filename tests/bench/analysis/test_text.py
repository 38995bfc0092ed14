import pytest

from bench.analysis.text import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ü 漢 🙂", "plain é ü 漢 🙂"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\x00", "nul\\x00"),
        ("a\rb\x0bc\x1cd", "a\\x0db\\x0bc\\x1cd"),
        ("\x7f\x85\x9b1m", "\\x7f\\x85\\x9b1m"),
        ("\u202egnp.exe\u2066\u2069\u200f", "\\u202egnp.exe\\u2066\\u2069\\u200f"),
        ("\u2028\ud800\U000e0001", "\\u2028\\ud800\\U000e0001"),
        ("a\\x1b", "a\\x1b"),
    ],
)
def test_what_is_not_seen_is_written_out(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def test_a_line_is_one():
    assert one_line("a \n\t b\u2028c") == "a b\\u2028c"
    assert one_line(3) == "3"
