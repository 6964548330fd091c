"""Every parser of untrusted bytes, and what must hold for any bytes: one table for the suite, selftest and atheris."""
