"""Backups of a busy server, killed and restored."""
