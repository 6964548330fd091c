"""Servers that do one thing wrong, for the conformance kit to find."""
