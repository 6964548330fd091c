"""The grammar of MQTT against two servers: what a client may say, nearly may say, and must not say."""
