"""What lies in a data folder, by its name."""

from __future__ import annotations

SECRET_NAME = "token.secret"  # noqa: S105 - a file name
KEYS_NAME = "jwks.cache"  # keys of others, as their address gave them last
CONFIG_NOTE = "serve.json"  # which configuration the last server of this folder had
UP_NOTE = "up.json"  # the ids, not the texts, of the tokens that the last `up` issued
RESTORING_NAME = ".restoring"  # what a restore has not finished; there is no data while it holds anything
APPS_NAME = "apps"  # the data folders of further applications (docs/apps.md)
