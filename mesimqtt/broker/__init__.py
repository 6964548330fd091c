"""The MQTT edge: amqtt's configuration, plugin manager and plugins, on our engine and our sockets."""
