"""The byte strings to search for, in the fastest order for the default token format.

`python -m tests.benchmarks.bench_detection --tune` wrote the list. Run it again when the strings have changed.
"""

from __future__ import annotations

# fmt: off
FASTEST_ORDER: tuple[bytes, ...] = (
    b"\n4X", b"r=\r\n8", b"r</", b"=72=38", b"I4\nX", b"eAG", b"r\\x00", b"JNF", b"eAE", b"begin ", b'r"]\n[',
    b"r8+AF8", b"\ndelta ", b"/eN", b"TFpJUA", b"SDRzS", b"KLUv", b"r\x008\x00_", b"eU9GO", b"lPRj", b"I4X",
    b"c\x00j\x00h", b"r\\u0000", b'"eN', b"r8\x1b", b"0072", b"r8{\\", b"r8`", b"\nliteral ", b"'eN",
    b"r\xe2\x81\xa0", b"\n8_", b"\nOF", b"r\xcd\x8f", b"r\\\n8", b"k0W", b"r\xc2\xad", b"5T0Y", b",38", b" eN",
    b"r\x1b[", b"eJw", b"\\nX", b"{72", b"38\n", b"cgA4AF", b"r\xe2\x80\x8b", b"STRY", b"&#X72", b"\\nOF", b"eF5",
    b"\\162", b"jamhm", b"eF7", b"r8\xef", b"r\x00\x00\x008", b"eF4", b"r8_", b"BCJNG", b"r8\\", b"r8<", b"eAH",
    b"Y2poZ", b"yADgAX", b'"8",', b"eAF", b"00000010", b"Td6WF", b"cjh", b"\neN", b"r8\r", b"r\xef\xbb\xbf", b"114",
    b"UEsDB", b"3872", b"H4sI", b"\njh", b"y\x00O\x00F", b"x\\x9c", b"r8'", b" 5f", b"XQAA", b"005F", b"cj\nh",
    b"eJz", b"=eN", b"r8=", b"x1f", b"yO\r\nF", b"\\N{U+", b"385F", b"I\x004\x00X", b"Qlpo", b"eF6", b"0   5F ",
    b"r8&", b"'8'", b"eJx", b"r8\xe2", b"cj\r\nh", b"IAOABf", b"72-38-5", b"x72", b"NqaG", b"r8\xcd",
    b"\xf3\xa0\x81\xb2\xf3", b"38 ", b"\n0000020 ", b"1f8b08", b"%2572", b"r8\n", b"N3q8r", b"r8%", b"eJy", b"385f",
    b'r8"', b"\n00000006:", b"72:38:5", b"%72", b"r=\n8", b"I4\r\nX", b"yO\nF", b"789c", b"r8\xc2", b":eN", b"yOF",
    b"r8$",
)
# fmt: on
