r"""The words of a user where some characters mean more than themselves: a terminal, a shell, a picture, Markdown.

Class names, columns, captions and paths may hold any character. Files keep them as they are. What is printed or drawn
goes through a function of this module:

    shown       a terminal      control and bidirectional characters become escapes such as \x1b
    listed      a terminal      the same, where each item of a list has a line of its own
    quoted      a shell         quotes, spaces, dollars; control characters too, as $'\x1b'
    drawn       matplotlib      $ begins no formula, _ hides no label
    markdown    a model card    * [ | < begin no markup
"""

from __future__ import annotations

import re
import shlex
import unicodedata

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, separators of lines and paragraphs
MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)")


def shown(text: object) -> str:
    """A text on one line, in which every character stands for itself: others become escapes, as in Python."""
    return "".join(_escape(each) if _is_odd(each) else each for each in str(text))


def listed(text: object) -> str:
    """A text whose items stand in lines of their own, each behind two blanks; all else is as `shown`."""
    return "\n  ".join(map(shown, str(text).split("\n  ")))


def quoted(word: object) -> str:
    """A word as a shell takes it, fit to be printed and pasted."""
    text = str(word)
    if not any(map(_is_odd, text)):
        return shlex.quote(text)
    raw = text.encode("utf-8", "surrogatepass" if _has_lone_surrogates(text) else "surrogateescape")
    return f"$'{''.join(map(_byte, raw))}'"


def command(name: str, *words: object, **flags: object) -> str:
    """A command of pathline as it can be pasted: `command("tune", folder, evaluations=8)`.

    Args:
        name: The command, such as "tune".
        words: What stands after it: run folders, presets.
        flags: By their names, with _ for -. None and False are left out, True has no value.
    """
    parts = ["pathline", name]
    parts += [quoted(f"./{word}" if str(word).startswith("-") else word) for word in words]
    for key, value in flags.items():
        if value is None or value is False:
            continue
        flag, text = f"--{key.rstrip('_').replace('_', '-')}", "" if value is True else str(value)
        glue = "=" if text.startswith("-") else " "  # what begins with - would be taken for a flag
        parts.append(flag if value is True else f"{flag}{glue}{quoted(text)}")
    return " ".join(parts)


def drawn(name: object) -> str:
    """A name as matplotlib draws it: a dollar is no formula, and an underscore before it does not hide it."""
    text = shown(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def markdown(text: object) -> str:
    """A text inside a line or a table of Markdown, as it stands."""
    return MARKUP.sub(lambda found: f"\\{found[0]}", shown(text))


def _is_odd(character: str) -> bool:
    return character in BIDIRECTIONAL or unicodedata.category(character) in INVISIBLE


def _escape(character: str) -> str:
    return ascii(character)[1:-1]


def _byte(value: int) -> str:
    """A byte inside $'...', which bash, zsh and POSIX of 2024 read."""
    character = chr(value)
    if character in "\\'":
        return f"\\{character}"
    return character if 32 <= value < 127 else f"\\{value:03o}"


def _has_lone_surrogates(text: str) -> bool:
    """Whether a text holds surrogates that stand for no byte of a file's name."""
    return any(0xD800 <= ord(each) < 0xDC80 or 0xDCFF < ord(each) < 0xE000 for each in text)
