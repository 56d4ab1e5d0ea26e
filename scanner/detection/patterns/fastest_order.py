"""The byte strings to search for, in the order in which the search is fastest, for the default token format.

`python -m tests.benchmarks.bench_detection --tune` wrote the list. Run it again when the strings to search for have
changed.
"""

from __future__ import annotations

# fmt: off
FASTEST_ORDER: tuple[bytes, ...] = (
    b"3872", b"r\xef\xbb\xbf", b"TFpJUA", b"eJw", b"\n0000020 ", b"r=\n8", b"XQAA", b"\n8_", b"cj\r\nh", b"I4X",
    b"%2572", b"SDRzS", b"eF4", b'"8",', b"1f8b08", b"\\N{U+", b"r</", b'"eN', b"eF6", b"=72=38",
    b"\xf3\xa0\x81\xb2\xf3", b"r8`", b"eAG", b"72:38:5", b"385F", b"begin ", b"k0W", b"x72", b"eU9GO", b"r\xc2\xad",
    b"114", b"\\162", b"0072", b" eN", b"eF7", b"{72", b"\nliteral ", b"H4sI", b"385f", b"\neN", b"005F", b":eN",
    b"r\x008\x00_", b"%72", b"eAE", b"r8'", b"\\nX", b"'8'", b"r8\x1b", b"'eN", b"\n00000006:", b"eJy", b"\nOF",
    b"r8%", b"Y2poZ", b"/eN", b'r"]\n[', b"jamhm", b"yO\nF", b"r8\\", b"5T0Y", b"r8<", b"\n4X", b"STRY", b"N3q8r",
    b" 5f", b"r\x1b[", b"cj\nh", b"r8=", b"yOF", b"72-38-5", b"r\xcd\x8f", b"38 ", b"r\xe2\x80\x8b", b"\njh", b"r8&",
    b"r8\xef", b"\\nOF", b"0   5F ", b"I4\nX", b"r=\r\n8", b"r8\xe2", b"BCJNG", b"cgA4AF", b"r\\\n8", b"eAH", b"KLUv",
    b"r\xe2\x81\xa0", b"r8$", b"IAOABf", b"yO\r\nF", b"r8{\\", b"NqaG", b"=eN", b"I\x004\x00X", b"789c", b"&#X72",
    b"y\x00O\x00F", b"JNF", b"cjh", b"lPRj", b"00000010", b"r8+AF8", b"yADgAX", b"r\\u0000", b"r\x00\x00\x008",
    b"I4\r\nX", b"UEsDB", b"r\\x00", b"Qlpo", b"r8\r", b"38\n", b"r8_", b"r8\xcd", b",38", b"c\x00j\x00h", b"eAF",
    b"eJx", b"\ndelta ", b"eF5", b'r8"', b"Td6WF", b"r8\xc2", b"eJz", b"r8\n", b"x1f", b"x\\x9c",
)
# fmt: on
