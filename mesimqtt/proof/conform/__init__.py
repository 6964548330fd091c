"""The conformance kit: the contract, statement by statement, held against any server (docs/conformance.md).

It knows nothing of the server but the wire: no module here imports the engine, messaging or the store.
"""
