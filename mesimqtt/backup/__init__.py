"""Backups: a data folder copied at one moment while it is used, proved to be whole, and put back (docs/backup.md)."""
