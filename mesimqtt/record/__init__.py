"""A recording: all that comes into a server from outside, so that the same run can be had again (docs/replay.md)."""
