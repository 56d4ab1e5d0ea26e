"""Recognition of programs that unpack their own code and that the detector cannot decompress."""

from __future__ import annotations

_FIRST_BYTES = 4096
_NSIS = b"\xef\xbe\xad\xdeNullsoftInst"
_NSIS_ALIGNMENT, _NSIS_PLACE = 512, 4
_INNO_SETUP = b"Inno Setup Setup Data ("


def packed_program(content: bytes) -> str | None:
    """Return the name of the packer that compressed a program, or None if the content is not such a program."""
    if content[:2] == b"MZ":
        at = content.find(_NSIS)
        if at >= 0 and at % _NSIS_ALIGNMENT == _NSIS_PLACE:
            return "nsis"
        if _INNO_SETUP in content:
            return "inno_setup"
        return "upx" if b"UPX0\0\0\0\0" in content[:_FIRST_BYTES] else None
    if content[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        return "upx" if b"UPX!" in content[: _FIRST_BYTES // 4] else None
    return None
