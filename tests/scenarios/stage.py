"""Plays a transcript: starts its clients, does what each sentence says, waits for what it promises."""

from __future__ import annotations

import base64
import json
import shlex
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from scenarios import laws
from scenarios.actors import Actor, ActorError, ConnectRefusedError, Login, MosquittoPub, MosquittoSub, Received
from scenarios.app import App
from scenarios.language import STATUS_CODES, Kind, Verb, Will
from scenarios.matching import Bindings, Names, json_payload, match_fields, match_payload, parse_fields, payload_bytes
from scenarios.paho_actor import Paho
from scenarios.tiny import TinyDevice
from spoken import assert_spoken

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.server import Server
    from scenarios.language import ClientSpec, Step, Transcript

# How long nothing may come before "nobody receives anything else" is believed.
QUIET_S = 0.25
QUIET_DEADLINE_S = 60.0
SUBACK_FAILURE = 0x80

_ACTORS: dict[Kind, type[Actor]] = {
    Kind.SUB: MosquittoSub,
    Kind.PUB: MosquittoPub,
    Kind.PAHO: Paho,
    Kind.TINY: TinyDevice,
    Kind.APP: App,
}


@dataclass(slots=True)
class Venue:
    """Where a transcript is played: a running server, the names it has there, a token for each user."""

    server: Server
    names: Names
    tokens: dict[str, str] = field(default_factory=dict)


class Stage:
    """One performance of one transcript."""

    def __init__(self, transcript: Transcript, venue: Venue) -> None:
        self.transcript = transcript
        self.venue = venue
        self.bindings = Bindings()
        self.board = threading.Condition()
        self.tokens: dict[str, str] = {}
        self.actors = {name: self._actor(spec) for name, spec in transcript.clients.items()}
        self._seen_open: set[str] = set()
        self.played: list[Step] = []

    def play(self) -> None:
        """Play all of the story. Raises AssertionError with the transcript so far."""
        try:
            for step in self.transcript.steps:
                self._step(step)
            self._finale()
        finally:
            for actor in self.actors.values():
                actor.close()

    def left_over(self) -> list[str]:
        """Return what was received and no line lists, repeats after a lost link apart."""
        return [
            f"{name}: {one}"
            for name, actor in self.actors.items()
            for number, one in enumerate(actor.received)
            if not one.is_listed and not _is_repeat(one, actor.received[:number], actor)
        ]

    def _step(self, step: Step) -> None:
        try:
            self._check_links(step)
            _DO[step.verb](self, step)
        except (ActorError, AssertionError, LookupError, OSError) as error:
            self._fail(f"{step.line}: {step.text}", str(error))
        self.played.append(step)

    def _fail(self, where: str, why: str) -> None:
        lines = [f"{self.transcript.name}.chat:{where}", f"  {why}", "", "so far:"]
        lines += [f"  {step.line:3} {step.text}" for step in self.played]
        lines += ["", "received, and not listed so far:", *(f"  {one}" for one in self.left_over())]
        lines += [
            "",
            f"placeholders: {dict(self.bindings)}",
            "",
            "the server printed:",
            self.venue.server.printed[-3000:],
        ]
        raise AssertionError("\n".join(lines))

    def _finale(self) -> None:
        try:
            self.silence()
            self._check_links(None)
        except AssertionError as error:
            self._fail(" at the end", str(error))
        for name, actor in self.actors.items():
            user = quote(self.venue.names.there(actor.spec.user), safe="@")
            for complaint in (*laws.breaches(actor.received, user), *actor.complaints):
                self._fail(" at the end", f"{name}: {complaint}")

    # --- clients

    def _actor(self, spec: ClientSpec) -> Actor:
        names = self.venue.names
        token = spec.password if spec.password is not None else self._token(spec)
        server = self.venue.server
        there = replace(
            spec,
            filters=tuple((names.topic_there(topic_filter), qos) for topic_filter, qos in spec.filters),
            will=Will(names.topic_there(spec.will.topic), spec.will.payload) if spec.will else None,
        )
        user = names.there(spec.user) if spec.user_name else None
        return _ACTORS[spec.kind](there, Login(server.host, server.port, user, token), self.board)

    def _token(self, spec: ClientSpec) -> str:
        user = self.venue.names.there(spec.user)
        if spec.kind is Kind.TINY:
            return self.venue.server.run("token", "issue", user, "--short", "--packet", "128").strip()
        if spec.token_ttl_s is not None:
            return self.venue.server.run("token", "issue", user, "--ttl", f"{spec.token_ttl_s}s").strip()
        if spec.own_token:
            return self.venue.server.run("token", "issue", user, "--device", spec.client_id).strip()
        return self.venue.tokens[spec.user]

    def _check_links(self, step: Step | None) -> None:
        """Fail if a client has lost its link and the transcript does not say so."""
        for name in sorted(self._seen_open):
            told = step is not None and step.client == name and step.verb in (Verb.CLOSED, Verb.RECONNECTED)
            if not self.actors[name].is_open and not told and not self.actors[name].comes_back:
                raise AssertionError(f"{name} was disconnected, and no line says so")

    def connect(self, step: Step) -> None:
        """Play `… connects`."""
        actor = self.actors[step.client]
        server = self.venue.server
        actor.login = Login(server.host, server.port, actor.login.user, actor.login.token)
        actor.connect(list(actor.spec.filters))
        for (topic_filter, wanted), granted in zip(actor.spec.filters, actor.granted, strict=True):
            self._granted(topic_filter, wanted, granted)
        self._seen_open.add(step.client)

    def _granted(self, topic_filter: str, wanted: int, granted: int) -> None:
        # Contract section 2: at most QoS 1 under in/.
        expected = min(wanted, 1) if topic_filter.startswith("m/") else wanted
        if granted != expected:
            raise AssertionError(f"SUBACK for {topic_filter} at QoS {wanted} grants {granted:#x}, not {expected}")

    def refused(self, step: Step) -> None:
        """Play `… connects and is refused with 5`."""
        try:
            self.connect(step)
        except ConnectRefusedError as refusal:
            if refusal.code != int(step.words["code"]):
                raise AssertionError(f"refused with {refusal.code}") from None
        else:
            raise AssertionError("it was let in")

    def subscribe(self, step: Step) -> None:
        """Play `… subscribes to … at QoS n`."""
        topic_filter, qos = self.venue.names.topic_there(step.words["filter"]), int(step.words["qos"])
        self._granted(topic_filter, qos, self.actors[step.client].subscribe(topic_filter, qos))

    def subscribe_refused(self, step: Step) -> None:
        """Play `… subscribes to … and is refused`."""
        topic_filter = self.venue.names.topic_there(step.words["filter"])
        granted = self.actors[step.client].subscribe(topic_filter, 1)
        if granted != SUBACK_FAILURE:
            raise AssertionError(f"SUBACK grants {granted:#x}")

    def leave(self, step: Step) -> None:
        """Play `… disconnects` and `… loses its link`."""
        actor = self.actors[step.client]
        self._seen_open.discard(step.client)
        if step.verb is Verb.DISCONNECT:
            actor.disconnect()
        else:
            actor.lose_link()

    def closed(self, step: Step) -> None:
        """Play `… is disconnected within n s`."""
        actor = self.actors[step.client]
        actor.wait(lambda: not actor.is_open, "disconnected", step.seconds())
        self._seen_open.discard(step.client)
        actor.close()

    def reconnected(self, step: Step) -> None:
        """Play `… reconnects by itself`."""
        actor = self.actors[step.client]
        actor.wait(lambda: actor.is_open, "reconnected", step.seconds())

    # --- messages

    def publish(self, step: Step) -> None:
        """Play `… publishes …`."""
        topic = self.venue.names.topic_there(self.bindings.fill_all(step.words["topic"]))
        assert_spoken(topic)
        words = step.words
        if "payload" in words:
            payload = payload_bytes(words["payload"], self.bindings)
        else:
            payload = json_payload(parse_fields(words["fields"]), self.bindings)
        qos = int(step.words["qos"]) if "qos" in step.words else None
        self.actors[step.client].publish(topic, payload, qos, retain="retained" in step.words)

    def receive(self, step: Step) -> None:
        """Play `… receives TOPIC …`."""
        words = step.words

        def fits(one: Received) -> Bindings | None:
            if one.dup is not ("again" in words):
                return None
            bound = self.bindings.match(words["topic"], self.venue.names.here(one.topic))
            if bound is None:
                return None
            text = self.venue.names.here(one.payload.decode("utf-8", "replace"))
            if "payload" in words:
                return match_payload(words["payload"], one.payload, text, bound)
            return match_fields(parse_fields(words["fields"]), text, bound)

        self._await(step, fits)

    def status(self, step: Step) -> None:
        """Play `… receives status CID NAME …`: `again` means byte for byte as before."""
        words, actor = step.words, self.actors[step.client]
        fields = {"cid": words["cid"], "name": words["name"], "status": str(STATUS_CODES[words["name"]])}
        fields |= parse_fields(words.get("fields", ""))
        topic = f"m/{self.venue.names.here(actor.spec.user)}/in/status/{words['cid']}"

        def fits(one: Received) -> Bindings | None:
            bound = self.bindings.match(topic, self.venue.names.here(one.topic))
            if bound is None:
                return None
            before = [other for other in actor.received if other.is_listed and other.payload == one.payload]
            if bool(before) is not ("again" in words):
                return None
            return match_fields(fields, self.venue.names.here(one.payload.decode()), bound)

        self._await(step, fits)

    def _await(self, step: Step, fits: Callable[[Received], Bindings | None]) -> None:
        actor = self.actors[step.client]

        def look() -> bool:
            for one in actor.received:
                if not one.is_listed and (bound := fits(one)) is not None:
                    one.is_listed = True
                    self.bindings = bound
                    return True
            return False

        actor.wait(look, "not received", step.seconds())

    def acknowledge(self, step: Step) -> None:
        """Play `… acknowledges what it has`."""
        self.actors[step.client].acknowledge()

    def silence(self, _step: Step | None = None) -> None:
        """Play `nobody receives anything else`: all that came is listed, once nothing has come for a moment."""
        end = time.monotonic() + QUIET_DEADLINE_S
        with self.board:
            while self.board.wait(QUIET_S):
                if time.monotonic() > end:
                    raise AssertionError("it never became quiet")
            for one in self.left_over():
                raise AssertionError(f"received, and no line lists it: {one}")

    # --- our own client

    def _app(self, step: Step) -> App:
        actor = self.actors[step.client]
        if not isinstance(actor, App):
            raise ActorError(f"{step.client} is not our Python client")
        return actor

    def send(self, step: Step) -> None:
        """Play `… sends "text" to …`."""
        words = step.words
        fields = {key: self.bindings.fill_all(value) for key, value in parse_fields(words.get("fields", "")).items()}
        to = self.venue.names.there(words["to"])
        self._app(step).send(words["name"], to, words["payload"].encode(), is_group="group" in words, options=fields)

    def see(self, step: Step) -> None:
        """Play `… sees {message} delivered`."""
        member = self.venue.names.there(step.words["member"]) if "member" in step.words else None
        self._app(step).see(step.words["name"], step.words["status"], member)

    def get(self, step: Step) -> None:
        """Play `… gets "text" from …`."""
        words, names = step.words, self.venue.names
        group = names.there(words["group"]) if "group" in words else None
        mid = self._app(step).get(words["name"], words["payload"].encode(), names.there(words["peer"]), group)
        self.bindings[words["name"][1:-1]] = mid

    def mark_read(self, step: Step) -> None:
        """Play `… marks {message} read`."""
        self._app(step).mark_read(step.words["name"])

    # --- server and operator

    def server_gone(self, step: Step) -> None:
        """Play `the server is killed` and `the server stops`."""
        self._need_own_server()
        if step.verb is Verb.SERVER_KILL:
            self.venue.server.kill()
        elif code := self.venue.server.stop():
            raise AssertionError(f"the server ended with exit code {code}")
        for name in sorted(self._seen_open):
            actor = self.actors[name]
            actor.server_gone()
            if not actor.comes_back:
                self._seen_open.discard(name)

    def server_start(self, _step: Step) -> None:
        """Play `the server starts again`: on the same data folder and port."""
        self._need_own_server()
        self.venue.server.start()

    def _need_own_server(self) -> None:
        if not self.transcript.own_server:
            raise AssertionError("a transcript that stops the server needs a [server of its own]")

    def pause(self, step: Step) -> None:
        """Play `2 seconds pass`: really, for what the server measures in seconds."""
        time.sleep(step.seconds())

    def operator(self, step: Step) -> None:
        """Play `the operator runs: …`."""
        names = self.venue.names
        arguments = [names.there(word) for word in shlex.split(self.bindings.fill_all(step.words["command"]))]
        printed = names.here(self.venue.server.run(*arguments))
        wanted = self.bindings.fill_all(step.words.get("output", ""))
        if wanted not in printed:
            raise AssertionError(f"the command printed:\n{printed}")

    def revoke(self, step: Step) -> None:
        """Play `the operator revokes the token of …`: this one token, by its jti."""
        claims = self.actors[step.client].login.token.split(".")[1]
        jti = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]
        self.venue.server.run("token", "revoke", jti)

    def new_token(self, step: Step) -> None:
        """Play `bob gets a new token`: all his clients use it from now on."""
        user = step.words["user"]
        there = self.venue.names.there(user)
        token = self.venue.server.issue(there)[there]
        for actor in self.actors.values():
            if actor.spec.user == user:
                actor.login = Login(actor.login.host, actor.login.port, actor.login.user, token)


def _is_repeat(one: Received, earlier: list[Received], actor: Actor) -> bool:
    """Tell whether a delivery only repeats, as it may once a link was lost (contract sections 3 and 4)."""
    return actor.lost_links > 0 and any(
        other.connection < one.connection and laws.is_same(other, one) for other in earlier
    )


_DO: dict[Verb, Callable[[Stage, Step], None]] = {
    Verb.CONNECT: Stage.connect,
    Verb.REFUSED: Stage.refused,
    Verb.SUBSCRIBE: Stage.subscribe,
    Verb.SUBSCRIBE_REFUSED: Stage.subscribe_refused,
    Verb.DISCONNECT: Stage.leave,
    Verb.LOSE_LINK: Stage.leave,
    Verb.CLOSED: Stage.closed,
    Verb.RECONNECTED: Stage.reconnected,
    Verb.PUBLISH: Stage.publish,
    Verb.RECEIVE: Stage.receive,
    Verb.STATUS: Stage.status,
    Verb.ACKNOWLEDGE: Stage.acknowledge,
    Verb.SEND: Stage.send,
    Verb.SEE: Stage.see,
    Verb.GET: Stage.get,
    Verb.MARK_READ: Stage.mark_read,
    Verb.SILENCE: Stage.silence,
    Verb.SERVER_KILL: Stage.server_gone,
    Verb.SERVER_STOP: Stage.server_gone,
    Verb.SERVER_START: Stage.server_start,
    Verb.PASS: Stage.pause,
    Verb.OPERATOR: Stage.operator,
    Verb.REVOKE: Stage.revoke,
    Verb.NEW_TOKEN: Stage.new_token,
}
