"""The MQTT data plane, sans I/O: bytes in, bytes and calls out; time is passed in."""
