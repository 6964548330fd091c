"""What a recording begins with: the data as it was, which nobody may write meanwhile."""

from __future__ import annotations

import os

import pytest

from mesimqtt.domain.errors import InUseError
from mesimqtt.record.start import copy_data, hash_of
from mesimqtt.store.database import is_locked, lock


def test_a_folder_that_a_server_has_is_not_copied(tmp_path):
    """It is refused in the server's own words, and nothing is made; once it is free it is copied, and free again."""
    data, target = tmp_path / "data", tmp_path / "tape.start"
    data.mkdir()
    (data / "mesimqtt.db").write_bytes(b"data")
    held = lock(data)
    try:
        with pytest.raises(InUseError, match="is in use by another mesimqtt server; stop it or choose another --data"):
            copy_data(data, target)
    finally:
        os.close(held)
    assert not target.exists()
    hashes = copy_data(data, target)

    assert {"mesimqtt.db": hash_of(data / "mesimqtt.db")} == hashes
    assert not is_locked(data)
