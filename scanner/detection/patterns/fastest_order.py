"""The byte strings to search for, in the fastest order for the default token format.

`python -m tests.benchmarks.bench_detection --tune` wrote the list. Run it again when the strings have changed.
"""

from __future__ import annotations

# fmt: off
FASTEST_ORDER: tuple[bytes, ...] = (
    b"eAF", b"\\nX", b"x1F", b'r"]\n[', b"r8\xcd", b"\ndelta ", b"eF4", b"r\x00\x00\x008", b'"eN', b"r8<", b"0   5F ",
    b"r8\\", b"cjh", b"r\\u0000", b"\nhf", b"r\xe2\x81\xa0", b"eF6", b"38 ", b" 5f", b"r\x1b[", b"r8`", b"H4sI", b"eAH",
    b"\xf3\xa0\x81\xb2\xf3", b" eN", b"x1f", b"r\xc2\xad", b"\nOF", b"IAOABf", b"Y2poZ", b"5T0Y", b"BCJNG", b"cgA4AF",
    b"38\n", b"_8r", b"r8=", b"r\\x00", b"N3q8r", b"y\x00O\x00F", b"STRY", b"=eN", b"I4X", b"UEsDB", b"72-38-5",
    b"c\x00j\x00h", b"r\xe2\x80\x8b", b"\njh", b"\\162", b"eAG", b"Qlpo", b"r8\xc2", b"KLUv", b"x\\x9", b"Td6WF",
    b"yADgAX", b"lPRj", b"'eN", b"-117", b"r8\r", b"yOF", b"SDRzS", b"r</", b"1f8b08", b"r8\xe2", b"139", b"I4\r\nX",
    b"385F", b"eJz", b'r8"', b"%2572", b"0072", b"r\xef\xbb\xbf", b"\\N{U+", b"789c", b"I4\nX", b"r8\x1b", b"789C",
    b"385f", b"r\x008\x00_", b"r8%", b":eN", b"jamhm", b"=72=38", b"eJy", b"r8&", b"eU9GO", b"00000010", b"r8{",
    b"\n4X", b"r8+AF8", b"I\x004\x00X", b"\n00000", b"&#X72", b"TFpJUA", b"r8\xef", b"\n8_", b"/eN", b"begin ",
    b"\\nOF", b"eJw", b"r8$", b"eF5", b"3872", b"NqaG", b",38", b"72:38:5", b"k0W", b"r8'", b"yO\r\nF", b"XQAA",
    b"r8\n", b"'8'", b"114", b"r8_", b"\neN", b"eAE", b"%72", b"eF7", b"005F", b"r\xcd\x8f", b"eJx", b"\nliteral ",
    b"{72", b'"8",', b"1F8B08", b"JNF", b"yO\nF", b"x72",
)
# fmt: on
