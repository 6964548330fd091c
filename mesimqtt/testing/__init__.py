"""For tests of what is built on mesimqtt: a whole server in virtual time, without sockets and without sleep."""
