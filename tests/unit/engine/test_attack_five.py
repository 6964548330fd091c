"""What an attacker of MQTT 5.0 in the engine found, and what keeps it found: each case failed once."""

from __future__ import annotations

import pytest

from mesimqtt.hooks import Identity, Refusal
from mesimqtt.testing import wire5
from mesimqtt.testing.parse5 import parse_all
from unit.engine.both_ends import Network, publish, subscribe
from unit.engine.fake_keeper import FakeKeeper


class Five:
    """The far end of a connection that speaks 5.0."""

    def __init__(self, network, client_id, **options):
        self.network = network
        self.far = network.client()
        self.answer = self.send(wire5.connect(client_id, **options))

    def send(self, *packets):
        """Send packets as one segment; return what the server answered."""
        self.far.connection.receive(b"".join(packets), self.network.now)
        return self.received()

    def received(self):
        """Return the packets that the server wrote since the last look."""
        return parse_all(self.far.raw())

    def lose(self):
        self.far.lose()


def kinds(packets):
    return [packet.kind for packet in packets]


@pytest.fixture
def instant():
    """An engine with a store that commits at once, until a test says otherwise."""
    keeper = FakeKeeper()
    keeper.is_instant = True
    return Network(keeper=keeper)


def kept_subscriber(network, *filters, client_id="kept", **options):
    """Return a client of 5.0 whose session is kept, with subscriptions."""
    client = Five(network, client_id, session_expiry_interval=3600, **options)
    client.send(wire5.subscribe(*filters))
    return client


def test_a_delayed_will_does_not_fire_because_somebody_else_was_decided(network):
    """A connection that ended while it waited for the rights of a receiver keeps its Will Delay [MQTT-3.1.3-9]."""
    watcher = network.subscribed(("w", 0), client_id="watcher", keep_alive=0)
    receiver = network.subscribed(("t", 0), client_id="receiver", keep_alive=0)
    will = wire5.will("w", b"gone", will_delay_interval=30)
    client = Five(network, "c", will=will, session_expiry_interval=100)
    network.gate.unknown.add(("receive", "t"))
    client.send(wire5.publish("t", b"x"))
    client.lose()
    network.gate.unknown.clear()
    receiver.connection.resume(network.now)

    assert [] == watcher.received()
    network.pass_time(31)

    assert [b"gone"] == [message.payload for message in watcher.received()]


def test_a_will_that_was_called_off_does_not_fire_later(network):
    """Who is back before the delay has passed has no will any more, whatever his old connection waited for."""
    watcher = network.subscribed(("w", 0), client_id="watcher", keep_alive=0)
    receiver = network.subscribed(("t", 0), client_id="receiver", keep_alive=0)
    options = {"session_expiry_interval": 100, "clean": False}
    client = Five(network, "c", will=wire5.will("w", b"gone", will_delay_interval=30), **options)
    network.gate.unknown.add(("receive", "t"))
    client.send(wire5.publish("t", b"x"))
    client.lose()
    Five(network, "c", **options)
    network.gate.unknown.clear()
    receiver.connection.resume(network.now)

    assert [] == watcher.received()


def test_nothing_behind_an_auth_is_processed_before_its_verdict(network):
    """While a renewal is awaited another answer of the gate does not let the packets behind it through."""
    watcher = network.subscribed(("t", 0), client_id="watcher")
    options = {"authentication_method": "OAUTH2-JWT", "authentication_data": b"token"}
    client = Five(network, "c", **options)
    network.gate.verdict = None
    client.send(wire5.auth(0x19, **options), wire5.publish("t", b"early"))
    client.far.connection.resume(network.now)

    assert [] == watcher.received()
    client.far.connection.authenticated(Identity("open"), network.now)

    assert [b"early"] == [message.payload for message in watcher.received()]
    assert ["AUTH"] == kinds(client.received())


@pytest.mark.parametrize("expiry", [0, 3600])
def test_a_packet_id_is_free_after_a_failed_commit(instant, expiry):
    """A QoS 2 message that was refused for want of a commit does not swallow the next one with its packet id."""
    watcher = kept_subscriber(instant, ("t", 2))
    client = Five(instant, "publisher", session_expiry_interval=expiry)
    instant.keeper.is_instant = False
    client.send(wire5.publish("t", b"lost", qos=2))
    instant.keeper.commit(ok=False)

    assert [0x97] == [packet.code for packet in client.received()]
    client.send(wire5.publish("t", b"new", qos=2))
    instant.keeper.commit()

    assert [("PUBREC", 0)] == [(packet.kind, packet.code) for packet in client.received()]
    assert [b"new"] == [packet.payload for packet in watcher.received()]


def test_a_repeated_message_that_was_committed_is_not_refused(instant):
    """The PUBREC of a repeated QoS 2 PUBLISH is a success even if the commit that it waits for fails."""
    watcher = kept_subscriber(instant, ("t", 2))
    options = {"session_expiry_interval": 3600, "clean": False}
    Five(instant, "publisher", **options).send(wire5.publish("t", b"one", qos=2))
    client = Five(instant, "publisher", **options)
    instant.keeper.is_instant = False
    client.send(wire5.publish("t", b"one", qos=2, dup=True))
    instant.keeper.commit(ok=False)

    assert [("PUBREC", 0)] == [(packet.kind, packet.code) for packet in client.received()]
    assert [b"one"] == [packet.payload for packet in watcher.received()]


def test_a_failed_commit_is_told_for_a_message_without_subscribers(instant):
    """A retained message that nobody subscribed to is refused with 0x97 where the commit fails, not with an end."""
    client = Five(instant, "c")
    instant.keeper.is_instant = False
    client.send(wire5.publish("t", b"x", qos=1, retain=True))
    instant.keeper.commit(ok=False)

    assert [("PUBACK", 0x97)] == [(packet.kind, packet.code) for packet in client.received()]
    assert client.far.connection.is_open


def test_an_alias_is_not_used_before_it_was_told(instant):
    """A retained message that waits for a commit does not make an alias that a live one uses first [MQTT-3.3.2-12]."""
    publisher = Five(instant, "publisher")
    publisher.send(wire5.publish("t", b"kept", retain=True))
    client = Five(instant, "c", session_expiry_interval=3600, topic_alias_maximum=5)
    instant.keeper.is_instant = False
    client.send(wire5.subscribe(("t", 0)))
    publisher.send(wire5.publish("t", b"live"))
    live = client.received()
    instant.keeper.commit()
    later = client.received()

    assert [("t", 1, b"live")] == [(packet.topic, packet.topic_alias, packet.payload) for packet in live]
    assert [("", 1, b"kept")] == [(p.topic, p.topic_alias, p.payload) for p in later if p.kind == "PUBLISH"]


def test_what_a_member_leaves_has_the_identifier_of_who_gets_it(network):
    """A message that goes to another member of a shared subscription carries that member's identifier alone."""
    first, second = Five(network, "first"), Five(network, "second")
    first.send(wire5.subscribe(("$share/g/t", 1), subscription_identifier=1))
    network.connected("p").send(publish("t", b"x", qos=1))
    second.send(wire5.subscribe(("$share/g/t", 1), subscription_identifier=2))
    first.lose()

    assert [(b"x", [2])] == [(packet.payload, packet.subscription_identifier) for packet in second.received()]


def test_each_share_gets_back_what_its_member_left(network):
    """Who was a member of two shared subscriptions leaves to each of them what came by it, once."""
    leaving = network.subscribed(("$share/g/t", 1), ("$share/h/+", 1), client_id="leaving")
    network.connected("p").send(publish("t", b"x", qos=1))

    assert [b"x", b"x"] == [message.payload for message in leaving.received()]
    of_g = network.subscribed(("$share/g/t", 1), client_id="g")
    of_h = network.subscribed(("$share/h/+", 1), client_id="h")
    leaving.lose()

    assert [b"x"] == [message.payload for message in of_g.received()]
    assert [b"x"] == [message.payload for message in of_h.received()]


@pytest.mark.parametrize("is_member", [False, True], ids=["expired", "inherited"])
def test_a_long_queue_without_a_store(network, is_member):
    """A hundred thousand messages that nobody wants any more are paged through without a store, too."""
    topic = "$share/g/t" if is_member else "t"
    client = Five(network, "c", session_expiry_interval=50)
    client.send(wire5.subscribe((topic, 1)))
    client.lose()
    publisher = network.connected("p", keep_alive=0, level=4)
    speaker = Five(network, "speaker")
    many = b"".join(wire5.publish("t", b"x", qos=1, message_expiry_interval=5) for _ in range(1000))
    for _ in range(100):
        speaker.far.connection.receive(many, network.now)
        speaker.far.raw()
    network.now += 10
    network.engine.tick(network.now)
    again = Five(network, "c", clean=is_member)

    assert again.far.connection.is_open
    assert [] == again.received()
    assert publisher.connection.is_open


def test_held_bytes_are_counted_off_at_once(network):
    """What was held for a slow reader makes room when it ends, not a quarter of a second later."""
    for client_id, qos in (("zero", 0), ("one", 1)):
        slow = network.subscribed(("t", qos), client_id=client_id)
        slow.connection.set_congested(True)
    network.connected("p").send(publish("t", bytes(1000), qos=1))

    assert network.engine.held_bytes > 2000
    for client_id in ("zero", "one"):
        network.engine.sessions["open", client_id].connection.lost(network.now)

    assert network.engine.held_bytes == 0


def test_a_client_is_not_silent_while_the_server_thinks(network):
    """The keep alive of a client that is not read, since the gate does not answer, does not run out."""
    network.gate.unknown.add(("publish", "t"))
    client = network.connected("c", keep_alive=1)
    client.send(publish("t"))
    network.pass_time(5)

    assert not client.closed
    network.gate.unknown.clear()
    client.connection.resume(network.now)
    network.pass_time(5)

    assert "keep alive timeout" == client.closed


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_refused_payload_tells_no_more_than_fits(chunk):
    """The PUBACK of a discarded payload leaves its Reason String out for a small client [MQTT-3.4.2-2]."""
    network = Network(payload_max=60)
    client = Five(network, "c", maximum_packet_size=16)
    data = wire5.publish("t", bytes(100), qos=1) + wire5.PINGREQ
    for start in range(0, len(data), chunk):
        client.far.connection.receive(data[start : start + chunk], network.now)

    assert [("PUBACK", 0x83), ("PINGRESP", 0)] == [(packet.kind, packet.code) for packet in client.received()]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_nothing_behind_a_refused_payload_is_processed_once_the_connection_is_closed(chunk):
    """What closes a connection at the end of a discarded payload ends the processing of what stands behind it."""
    network = Network(payload_max=60)
    client = Five(network, "c", session_expiry_interval=100, maximum_packet_size=20)
    client.far.connection.packet_max = 4  # as a token of a small device would have it
    data = wire5.publish("t", bytes(100), qos=1) + wire5.subscribe(("t", 1))
    for start in range(0, len(data), chunk):
        client.far.connection.receive(data[start : start + chunk], network.now)

    assert client.far.closed
    assert {} == network.engine.sessions["open", "c"].subscriptions


def test_a_refusal_is_not_larger_than_the_client_takes(network):
    """A CONNACK that refuses is left out where the client takes no packet of its size [MQTT-3.1.2-24]."""
    network.gate.verdict = Refusal(5, "no")
    client = Five(network, "c", maximum_packet_size=4)

    assert [] == client.answer
    assert client.far.closed


def test_wildcards_that_would_visit_every_route_drop_them_all(network):
    """Many wildcards over many routes cost no more than finding the routes anew, which then have the subscriber."""
    publisher = network.connected("publisher")
    publisher.send(*(publish(f"a/{number}/x") for number in range(8_000)))
    subscriber = network.connected("subscriber")

    assert len(network.engine.routes) == 8_000
    subscriber.send(subscribe(("+/+/no", 0), ("+/7/+", 0), ("+/+/none", 0), ("+/+/nil", 0)))

    assert len(network.engine.routes) == 0
    publisher.send(publish("a/7/x", b"found"))

    assert [b"found"] == [message.payload for message in subscriber.received()]


def test_wildcards_that_find_nothing_cost_a_bounded_search():
    """Filters that visit all retained messages without finding one leave no time for more; names are still found."""
    network = Network(retained_visits_max=10)
    publisher = network.connected("publisher")
    publisher.send(*(publish(f"a/{number}", b"x", retain=True) for number in range(50)))
    subscriber = network.connected("subscriber")
    answer = subscriber.send(subscribe(("+/no", 0), ("+/+/no", 0), ("a/+", 0), ("a/7", 0)))

    assert [("SUBACK", 1, [0, 0, 0, 0])] == answer[:1]
    assert ["a/7"] == [message.topic for message in answer[1:]]


def test_an_ended_session_is_dropped_without_a_look_at_the_others(network):
    """Sessions are dropped at their own time, and not while their client is back."""
    for number, expiry in enumerate((1, 5, 5)):
        Five(network, f"c{number}", session_expiry_interval=expiry).lose()
    Five(network, "c2", session_expiry_interval=5, clean=False)
    network.pass_time(2)

    assert ["c1", "c2"] == sorted(client_id for _, client_id in network.engine.sessions)
    network.pass_time(5)

    assert ["c2"] == [client_id for _, client_id in network.engine.sessions]


def test_a_repeated_release_in_one_segment_is_not_found(network):
    """Each PUBREL has its own answer in its place: the second one of a packet id finds nothing any more."""
    client = Five(network, "c")
    client.send(wire5.publish("t", qos=2, packet_id=5))
    answer = client.send(wire5.pubrel(9), wire5.pubrel(5), wire5.pubrel(5))

    assert [(9, 0x92), (5, 0), (5, 0x92)] == [(packet.packet_id, packet.code) for packet in answer]


@pytest.mark.parametrize(("user", "jti", "fires"), [("mallory", "", 0), ("", "t1", 0), ("bob", "", 1), ("", "t2", 1)])
def test_who_may_not_speak_any_more_has_no_delayed_will(network, user, jti, fires):
    """A user who was disabled, or a token that was revoked, takes its delayed will along; others keep theirs."""
    watcher = network.subscribed(("w", 0), client_id="watcher", keep_alive=0)
    network.gate.verdict = Identity("mallory", jti="t1")
    client = Five(network, "c", will=wire5.will("w", b"gone", will_delay_interval=5), session_expiry_interval=100)
    client.lose()
    network.engine.revoke(user, jti)
    network.pass_time(101)

    assert fires == len(watcher.received())


def test_what_waits_to_be_replayed_is_bounded_for_all_together(network, monkeypatch):
    """Clients that subscribe and do not read are closed before they fill the memory; others get all."""
    monkeypatch.setattr("mesimqtt.engine.replay._TOTAL_MAX", 3_000)
    monkeypatch.setattr("mesimqtt.engine.replay._AT_ONCE", 10)
    network.connected("p").send(*(publish(f"t/{number}", b"x", retain=True) for number in range(1_000)))
    clients = [network.subscribed(("#", 0), client_id=f"c{number}") for number in range(4)]

    assert [False, False, False, True] == [bool(client.closed) for client in clients]
    while network.engine.replays:
        network.engine.go_on()

    assert 1_000 == len(clients[0].rest) + len(clients[0].received())


def test_who_waits_for_most_makes_room_for_a_small_subscription(network, monkeypatch):
    """Where clients that do not read have filled what may wait, one of them is closed, and not whoever comes next."""
    monkeypatch.setattr("mesimqtt.engine.replay._TOTAL_MAX", 2_000)
    monkeypatch.setattr("mesimqtt.engine.replay._AT_ONCE", 10)
    network.connected("p").send(*(publish(f"t/{number}", b"x", retain=True) for number in range(1_000)))
    hoarders = [network.subscribed(("#", 0), client_id=f"c{number}") for number in range(2)]
    modest = network.subscribed(*((f"t/{number}", 0) for number in range(30)), client_id="modest")

    assert ([True, False], False) == ([bool(each.closed) for each in hoarders], bool(modest.closed))
    while network.engine.replays:
        network.engine.go_on()

    assert 30 == len(modest.rest) + len(modest.received())
