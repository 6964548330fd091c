"""A message from one user to another: acceptance, commit, delivery, receipts (contract sections 2 to 4)."""

from __future__ import annotations

from unit.messaging.world import mid_of


def test_a_message_is_delivered_byte_for_byte_and_its_sender_told(world):
    """bob's device receives the same bytes, alice SENT and then DELIVERED with the device that took it."""
    alice, bob = world.listener("alice"), world.listener("bob")
    payload = bytes(range(256))

    assert alice.publish("u/bob/42", payload)

    (message,) = bob.received()
    mid = mid_of(message)
    ts = world.ms
    assert (f"m/bob/in/u/alice/{mid}/seq=1", payload, 1, False) == (message.topic, message.payload, message.qos, message.dup)
    assert [
        f'{{"cid":"42","mid":"{mid}","peer":"bob","status":1,"name":"sent","ts":{ts}}}',
        f'{{"cid":"42","mid":"{mid}","peer":"bob","status":2,"name":"delivered","ts":{ts},"device":"phone"}}',
    ] == [each.payload.decode() for each in alice.received()]
