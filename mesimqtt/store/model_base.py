"""What every table has in common: the models file by file import it, `models.py` lists them all."""

from __future__ import annotations

from peewee import DatabaseProxy, Model

database = DatabaseProxy()


class Table(Model):
    """A table of the one database."""

    class Meta:
        database = database
        legacy_table_names = False
