"""The edge beside MQTT: the control socket that the command line speaks to."""
