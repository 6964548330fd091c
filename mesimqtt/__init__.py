"""mesimqtt: a self-hosted messaging server on MQTT that tells the truth about every message."""

__version__ = "0.1.0"
