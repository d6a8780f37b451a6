"""Words of a user on a terminal, in a shell, in a picture and in Markdown: each row was printed or run wrong before."""

import io
import shlex
import subprocess

import pytest
from matplotlib.cbook import is_math_text
from rich.table import Table

from pathline.cli.terminal import Terminal, say, warn
from pathline.quoting import command, drawn, markdown, quoted, shown

WORDS = [
    pytest.param("a b", id="space"),
    pytest.param("", id="nothing"),
    pytest.param('it\'s "so"', id="quotes"),
    pytest.param("$HOME `id` $(id)", id="what a shell runs"),
    pytest.param("a\\b\\", id="backslashes"),
    pytest.param("~/x*?", id="what a shell expands"),
    pytest.param("a\x1b[31mred\x07", id="escape and bell"),
    pytest.param("two\nlines\t'", id="newline and tab"),
    pytest.param("\u202eabc\u2066", id="bidirectional"),
    pytest.param("caf\u00e9 \u4e2d", id="letters of the world"),
    pytest.param("x\udcffy", id="a byte that is no letter"),
    pytest.param("[red]x[/b]:smile:", id="markup"),
]


@pytest.mark.parametrize("word", WORDS)
def test_a_quoted_word_reaches_a_program_as_it_was(word):
    text = quoted(word)
    found = subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, check=True).stdout
    assert found == word.encode("utf-8", "surrogateescape")
    assert text == shown(text)  # and the terminal does not obey it


@pytest.mark.parametrize("word", WORDS)
def test_a_shown_word_is_one_line_that_can_be_encoded(word):
    text = shown(word)
    assert text.isprintable() and text.encode() is not None
    assert text == word or not word.isprintable()


@pytest.mark.parametrize("word", WORDS)
def test_a_terminal_shows_a_word_as_it_is_in_lines_and_tables(word, capsys):
    file = io.StringIO()
    terminal = Terminal(file=file, width=100)
    table = Table(title=word)
    table.add_row(word)
    terminal.say(f"<{word}>")
    terminal.print(table)
    say(f"<{word}>")
    warn("train", word)
    told = capsys.readouterr()
    assert file.getvalue().startswith(f"<{shown(word)}>\n") and file.getvalue().count(shown(word)) >= 3
    assert (told.out, told.err) == (f"<{shown(word)}>\n", f"pathline train: {shown(word)}\n")


def test_a_command_can_be_pasted():
    said = command("sample", "-a b", class_="--x", guidance=2, prompt=None, invert=True, batch_size=3)
    assert said == "pathline sample './-a b' --class=--x --guidance 2 --invert --batch-size 3"
    assert shlex.split(said)[2:4] == ["./-a b", "--class=--x"]


@pytest.mark.parametrize(("word", "text"), [("a$x$", "a\\$x\\$"), ("_a", " _a"), ("a\nb", "a\\nb"), ("a", "a")])
def test_a_drawn_name_is_no_formula_and_hides_no_label(word, text):
    assert drawn(word) == text and not is_math_text(text)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("a|b", r"a\|b"),
        ("[x](y) <b>*z*</b>", r"\[x\](y) \<b\>\*z\*\</b\>"),
        ("batch_size", "batch_size"),
        ("_x_", r"\_x\_"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_markdown_has_no_markup_of_a_user(word, text):
    assert markdown(word).replace("\\\\", "\\") == text.replace("\\\\", "\\")
