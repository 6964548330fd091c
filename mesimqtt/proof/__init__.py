"""The proof: what the server promises, tried again and again, by anybody, with one command (PROOF.md).

A trial breaks a real server, or a part of it, on purpose, and looks whether a promise still holds. It may use
everything the server is made of; nothing of the server uses it.
"""
