"""A replay: the real server once more, on what a recording says came in, compared byte for byte (docs/replay.md)."""
