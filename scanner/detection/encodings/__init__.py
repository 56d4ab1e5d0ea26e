"""Decoders of encoded tokens in text: base64, hex, escape sequences, dumps of bytes."""
