"""amqtt plugins of mesimqtt, named in the YAML configuration: tokens, access to free topics, messaging."""
