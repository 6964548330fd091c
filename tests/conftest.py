"""What every test may use: the helpers under tests/ as `integration.…` and `scenarios.…`."""

import sys
from pathlib import Path

# Tests run with import mode importlib, which puts no folder on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))
