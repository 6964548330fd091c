"""The simulation: a server and its clients in virtual time, everything from one seed (docs/proof.md)."""
