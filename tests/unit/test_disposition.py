"""The Content-Disposition of a download, parsed by two independent parsers."""

import re
import unicodedata
from email import message_from_string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from broker.domain.disposition import MAX_NAME_BYTES, attachment, safe_name

NAMES = [
    # the name that an uploader chose, the name that is saved, and the fallback
    ("holiday.mp4", "holiday.mp4", "holiday.mp4"),
    ("Día de sol (1).mp4", "Día de sol (1).mp4", "D_a de sol (1).mp4"),
    ("休暇.webm", "休暇.webm", "__.webm"),
    ("عطلة.mp4", "عطلة.mp4", "____.mp4"),
    ("👩‍🚀.mov", "👩‍🚀.mov", "___.mov"),
    ("100%25.mp4", "100%25.mp4", "100_25.mp4"),
    ("it's;a=b.mp4", "it's;a=b.mp4", "it_s_a_b.mp4"),
    ('a".mp4', "a_.mp4", "a_.mp4"),
    ('x"; filename="evil.exe', "x_; filename=_evil.exe", "x__ filename__evil.exe"),
    ("a\r\nSet-Cookie: s=1.mp4", "aSet-Cookie_ s=1.mp4", "aSet-Cookie_ s_1.mp4"),
    ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
    ("C:\\videos\\a.mp4", "C__videos_a.mp4", "C__videos_a.mp4"),
    ("tab\tnul\0del\x7fnel\x85line\u2028.mp4", "tabnuldelnelline.mp4", "tabnuldelnelline.mp4"),
    ("harmless\u202e4pm.exe", "harmless4pm.exe", "harmless4pm.exe"),
    ("half\ud83d.mp4", "half.mp4", "half.mp4"),
    (" .hidden. ", "hidden", "hidden"),
    ("", "download", "download"),
    ("...", "download", "download"),
    ("\u202e\n", "download", "download"),
]


@pytest.mark.parametrize(("filename", "name", "fallback"), NAMES, ids=[ascii(row[0]) for row in NAMES])
def test_a_file_is_saved_under_a_safe_name(filename: str, name: str, fallback: str) -> None:
    value = attachment(filename)

    assert value.startswith(f'attachment; filename="{fallback}"; filename*=')
    assert read_by_werkzeug(value) == name


LONG_NAMES = [
    ("a" * 300 + ".mp4", "a" * 196 + ".mp4"),
    ("é" * 300 + ".mp4", "é" * 98 + ".mp4"),
    ("休" * 300 + ".mp4", "休" * 65 + ".mp4"),
    ("a" * 300, "a" * 200),
    ("a." + "b" * 300, "a." + "b" * 198),
    ("a" * 190 + " . . . . . . " + "b" * 20 + ".mp4", "a" * 190 + ".mp4"),
]


@pytest.mark.parametrize(("filename", "name"), LONG_NAMES, ids=[row[0][:3] + row[0][-4:] for row in LONG_NAMES])
def test_a_long_name_is_cut_before_its_extension(filename: str, name: str) -> None:
    assert safe_name(filename) == name


def read_by_werkzeug(value: str) -> str:
    kind, parameters = parse_options_header(value)
    assert kind == "attachment"
    assert set(parameters) == {"filename"}
    return parameters["filename"]


def parameters_read_by_email(value: str) -> list[tuple[str, str]]:
    message = message_from_string(f"Content-Disposition: {value}\n\n")
    assert message.keys() == ["Content-Disposition"]
    return message.get_params(header="content-disposition", unquote=False) or []


BIDI_OVERRIDES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

any_text = st.text(st.characters(), max_size=400) | st.text("\";\\/\r\n%'*=.\u202e aé休", max_size=400)


@given(any_text)
def test_nothing_breaks_out_of_the_header(filename: str) -> None:
    value = attachment(filename)

    assert re.fullmatch(
        r"attachment; filename=\"[A-Za-z0-9 ._()-]+\"; filename\*=UTF-8''([A-Za-z0-9._~-]|%[0-9A-F]{2})+", value
    )
    assert [name for name, _ in parameters_read_by_email(value)] == ["attachment", "filename", "filename"]
    assert read_by_werkzeug(value) == safe_name(filename)


@given(any_text)
def test_a_name_is_one_visible_line_of_bounded_length(filename: str) -> None:
    name = safe_name(filename)

    assert 1 <= len(name.encode()) <= MAX_NAME_BYTES
    assert not {unicodedata.category(char) for char in name} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(char) for char in name} & BIDI_OVERRIDES
    assert not set(name) & set('<>:"/\\|?*')
    assert name == name.strip(" .")
    assert safe_name(name) == name


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40))
def test_a_name_in_any_script_is_kept(filename: str) -> None:
    assert safe_name(f"{filename}.mp4") == f"{filename}.mp4"
