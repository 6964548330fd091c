"""Random loads of real clients, recorded and replayed: the same input gives the same output, byte for byte."""
