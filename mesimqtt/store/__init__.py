"""The store: peewee models, migrations, the committer. The only place that knows SQL."""
