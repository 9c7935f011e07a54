"""Bytes in and out: uploads streamed to disk, downloads with ranges."""
