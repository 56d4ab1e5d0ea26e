"""Imports all modules that a measured task needs."""

import bz2
import lzma
import sqlite3
import tarfile
import zipfile

import py7zr
import zstandard

import notifications.email.bounces
import scanner.compromise.usage_records
import scanner.detection.containers.archives
import scanner.detection.containers.compressed
import scanner.detection.containers.git_packs
import scanner.detection.containers.pdf
import scanner.detection.containers.png_text
import scanner.detection.containers.sqlite_files
import scanner.detection.git.packs
import scanner.sources.alerts
import scanner.sources.timeline.events
from scanner.detection import redact
from scanner.detection.encodings.base64_tokens import base64_forms

redact("cjhf" * 40)
base64_forms()

__all__ = [
    "bz2",
    "lzma",
    "notifications",
    "py7zr",
    "redact",
    "scanner",
    "sqlite3",
    "tarfile",
    "zipfile",
    "zstandard",
]
