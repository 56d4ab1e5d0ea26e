"""Decoders of tokens that are encoded in text: base64, hex, escapes, dumps of bytes."""
