"""`mesimqtt bench`: our server and another broker in turn on one core, loaded from the other core.

Starts servers as processes and speaks to them over sockets only, so it measures what a client sees.
"""

from mesimqtt.bench.runner import BenchOptions, run

__all__ = ["BenchOptions", "run"]
