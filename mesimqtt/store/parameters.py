"""Values of statements as Python's SQLite module takes them quickest."""

from __future__ import annotations

# It looks for an adapter of all that is not exactly an int, a float, a str or a bytearray: of bytes, of None, of a
# member of an enum. That costs 0.4 µs a value, to copy a payload 0.1.
Blob = bytearray
