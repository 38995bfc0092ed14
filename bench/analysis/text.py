"""Names as they can be shown: a suite, a data set or a file of somebody else's may hold anything.

What is shown never moves a cursor, hides a letter or turns the direction of the text: such characters are written out.
"""

import unicodedata

HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of Unicode: control, format (what turns the direction too), private, surrogate, line, paragraph."""
LAYOUT = "\n\t"


def visible(text: str) -> str:
    r"""Return text with every character that is not seen written out: `\x1b`, `\u202e`. Newline and tab stay."""
    return "".join(_written_out(c) if c not in LAYOUT and unicodedata.category(c) in HIDDEN else c for c in text)


def one_line(text: object) -> str:
    """Return text as one line in which everything is seen."""
    return " ".join(visible(str(text)).split())


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
