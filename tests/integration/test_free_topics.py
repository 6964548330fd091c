"""A house full of things: retained states, wills, shared work and rules, as its owner would set them up."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from integration.raw_client import RawClient, play
from integration.server import Server, ServerError, wait_until
from mesimqtt.cli.link import perform

HOME = Path(__file__).resolve().parents[2]
PLUGIN = "mesimqtt_plugins.acl.FolderAccess"
THING = "thermostat"


def configuration(rules_file):
    """Return what README.md shows under "Devices and free topics", with a file of rules beside it."""
    section = (HOME / "README.md").read_text(encoding="utf-8").split("\n## Devices and free topics\n")[1]
    shown = yaml.safe_load(section.split("```yaml\n")[1].split("```")[0])
    shown["broker"]["plugins"][PLUGIN]["rules_file"] = str(rules_file)
    return shown


@pytest.fixture
def house(tmp_path: Path):
    """Run a server with a thermostat, two workers, alice in the family and eve outside of it."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("[]")
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(json.dumps(configuration(rules)))
    with Server(tmp_path / "data", config=config) as server:
        users = [THING, "alice", "eve", "one", "two"]
        perform(server.data, "user_add", addresses=users)
        issued = perform(server.data, "token_issue", addresses=users)["tokens"]
        server.tokens = {each["address"]: each["token"] for each in issued}
        for group, members in (("family", ["alice"]), ("workers", ["one", "two"])):
            perform(server.data, "group_add", address=group)
            perform(server.data, "group_join", address=group, users=members)
        server.rules = rules
        yield server


def shown_commands():
    """Return the lines that README.md shows under the configuration, without their comments."""
    section = (HOME / "README.md").read_text(encoding="utf-8").split("\n## Devices and free topics\n")[1]
    block = section.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in block.splitlines()]


@pytest.mark.tools("mosquitto_pub")
def test_the_commands_are_as_written(tmp_path):
    """What README.md shows is pasted line by line: a reading reaches alice, the rest is as told."""
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(json.dumps(configuration(tmp_path / "rules.yaml")))
    (tmp_path / "rules.yaml").write_text("[]")
    users, thing, family, worker, explain = shown_commands()
    with Server(tmp_path / "mesimqtt-data", config=config) as server:
        for tool in ("mosquitto_pub", "mosquitto_sub"):
            (tmp_path / tool).write_text(f"-p {server.port}\n" + ("-d\n" if tool == "mosquitto_sub" else ""))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "XDG_CONFIG_HOME": str(tmp_path)}

        def paste(line, **options):
            return subprocess.Popen(
                ["bash", "-c", line], cwd=tmp_path, env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
            )  # fmt: skip

        first = paste(users)
        shown = first.communicate()[0]
        assert 0 == first.returncode, shown
        perform(server.data, "user_add", addresses=["one"])
        issued = perform(server.data, "token_issue", addresses=[THING, "alice", "one"])["tokens"]
        environment |= {each["address"].upper(): each["token"] for each in issued}
        running = [paste(f"exec stdbuf -oL {line}") for line in (family, worker, thing)]
        try:
            for listener in running[:2]:
                assert any("Subscribed" in line for line in listener.stdout)
            say(running[2], "21.5")
            assert any("home/thermostat/state/temperature 21.5" in line for line in running[0].stdout)
        finally:
            for process in running:
                process.kill()
                process.communicate()
        answer = paste(explain)
        told = answer.communicate()[0]

        assert 1 == answer.returncode
        assert told.startswith("deny")


async def connected(server, user, *, client_id=None, clean=True):
    client = await RawClient.connect(server.port, client_id or user, user, server.tokens[user], clean=clean)
    assert 0 == client.code
    return client


async def told(server, operation, **arguments):
    """Do an operation while the story's clients stay connected."""
    return await asyncio.to_thread(perform, server.data, operation, **arguments)


def publisher(server, user, topic, *options):
    """Start mosquitto_pub, which publishes each line that it is given and stays connected in between."""
    return subprocess.Popen(
        ["mosquitto_pub", "-h", server.host, "-p", str(server.port), "-u", user, "-P", server.tokens[user],
         "-i", f"{user}-1", "-l", "-t", topic, *options],
        stdin=subprocess.PIPE, text=True,
    )  # fmt: skip


def say(tool, line):
    tool.stdin.write(f"{line}\n")
    tool.stdin.flush()


def test_a_house_of_things(house):
    """States are retained, a thing that dies is reported by its will, and each gets only what the rules open."""

    async def story():
        topic = f"home/{THING}/state"
        will = ["--will-topic", f"{topic}/online", "--will-payload", "no", "--will-retain", "--will-qos", "1"]
        thing = publisher(house, THING, f"{topic}/temperature", "-r", "-q", "1", *will)
        try:
            say(thing, "21.5")
            alice = await connected(house, "alice")
            assert 0 == await alice.subscribe("home/#")
            assert (f"{topic}/temperature", b"21.5") == topic_and_payload(await alice.message())

            late = await connected(house, "alice", client_id="tablet")
            await late.subscribe(f"{topic}/+")
            assert (message := await late.message()).retain
            assert b"21.5" == message.payload

            eve = await connected(house, "eve")
            assert [0x80, 0x80, 0] == [await eve.subscribe(name) for name in ("home/#", "#", "home/eve/set/#")]
            await eve.publish(f"home/{THING}/set/target", b"30", qos=1)
            await alice.publish(f"home/{THING}/set/target", b"22", qos=1)
            assert (f"home/{THING}/set/target", b"22") == topic_and_payload(await alice.message())

            thing.kill()
            thing.wait()
            assert (f"{topic}/online", b"no") == topic_and_payload(await alice.message())
            assert (f"{topic}/online", b"no") == topic_and_payload(await late.message())
        finally:
            thing.kill()
            thing.communicate()
        for client in (alice, late, eve):
            await client.close()

    play(story)
    house.restart()

    async def after():
        alice = await connected(house, "alice")
        await alice.subscribe("home/+/state/#")
        kept = {topic_and_payload(await alice.message()) for _ in range(2)}

        assert {(f"home/{THING}/state/temperature", b"21.5"), (f"home/{THING}/state/online", b"no")} == kept
        await alice.close()

    play(after)


def topic_and_payload(message):
    return message.topic, message.payload


def test_a_wide_subscription_gets_everything_but_what_is_denied(house):
    """The rule that denies `pin` takes it out of `home/#`, live and retained."""

    async def story():
        thing = await connected(house, THING)
        await thing.publish(f"home/{THING}/state/pin", b"1234", qos=1, retain=True)
        alice = await connected(house, "alice")
        await alice.subscribe("home/#")
        await thing.publish(f"home/{THING}/state/pin", b"1234", qos=1)
        await thing.publish(f"home/{THING}/state/mode", b"auto", qos=1)

        assert b"auto" == (await alice.message()).payload
        for client in (thing, alice):
            await client.close()

    play(story)


def test_members_share_the_work_of_their_group(house):
    """`$share` under a group's own topics: each job goes to one worker, and to nobody from outside."""

    async def story():
        workers = [await connected(house, name) for name in ("one", "two")]
        assert [0, 0] == [await worker.subscribe("$share/shift/groups/workers/jobs/#") for worker in workers]
        alice = await connected(house, "alice")
        assert 0x80 == await alice.subscribe("$share/shift/groups/workers/jobs/#")
        await alice.publish("groups/workers/jobs/1", b"not mine to give", qos=1)
        for number in range(10):
            await workers[0].publish("groups/workers/jobs/1", str(number).encode(), qos=1)
        for worker in workers:
            await worker.ping()
        shares = [[message.payload for message in worker._messages] for worker in workers]

        assert sorted(str(number).encode() for number in range(10)) == sorted(shares[0] + shares[1])
        assert all(shares)
        for client in (*workers, alice):
            await client.close()

    play(story)


def test_joining_and_leaving_a_group_acts_at_once(house):
    """Who joins may; who leaves gets no further message on the subscription that he still has."""

    async def story():
        thing = await connected(house, THING)
        eve = await connected(house, "eve")
        assert 0x80 == await eve.subscribe("home/#")
        await told(house, "group_join", address="family", users=["eve"])
        assert 0 == await eve.subscribe("home/#")
        await thing.publish(f"home/{THING}/state/mode", b"seen", qos=1)
        assert b"seen" == (await eve.message()).payload

        await told(house, "group_leave", address="family", users=["eve"])
        await thing.publish(f"home/{THING}/state/mode", b"secret", qos=1)
        await eve.ping()
        assert [] == list(eve._messages)
        await told(house, "group_join", address="family", users=["eve"])
        await thing.publish(f"home/{THING}/state/mode", b"seen again", qos=1)
        assert b"seen again" == (await eve.message()).payload
        await told(house, "group_delete", addresses=["family"])
        await thing.publish(f"home/{THING}/state/mode", b"secret", qos=1)
        await eve.ping()
        assert [] == list(eve._messages)
        for client in (thing, eve):
            await client.close()

    play(story)


def test_a_right_that_is_lost_while_away_is_lost_on_return(house):
    """What waits in a kept session is judged when its client is back: nothing comes that it may not have any more."""

    async def story():
        await told(house, "group_join", address="family", users=["one"])
        thing = await connected(house, THING)
        for name in ("alice", "one"):
            client = await connected(house, name, clean=False)
            assert 1 == await client.subscribe("home/#", 1)
            await client.close()
        await thing.publish(f"home/{THING}/state/mode", b"before", qos=1)
        await told(house, "group_leave", address="family", users=["alice"])
        await thing.publish(f"home/{THING}/state/mode", b"after", qos=1)

        alice = await connected(house, "alice", clean=False)
        assert alice.session_present
        one = await connected(house, "one", clean=False)
        assert [b"before", b"after"] == [(await one.message()).payload for _ in range(2)]
        await alice.ping()
        assert [] == [message.payload for message in alice._messages]
        for client in (thing, alice, one):
            await client.close()

    play(story)


def test_a_file_of_rules_acts_on_sighup(house):
    """New rules are in force for connected clients at once; a broken file changes nothing."""

    async def story():
        eve = await connected(house, "eve")
        assert 0x80 == await eve.subscribe("lab/#")
        for text, code in (("- {allow: all, topic: lab/#}", 0), ("- {allow: all", 0), ("[]", 0x80)):
            house.rules.write_text(text)
            before = house.printed.count("SIGHUP")
            os.kill(house.pid, signal.SIGHUP)
            await asyncio.to_thread(wait_until, lambda n=before: house.printed.count("SIGHUP") > n)
            assert code == await eve.subscribe("lab/#")
        await eve.close()

    play(story)

    kept = re.compile(r"line 2 is not YAML \(.*\); the rules from before stay in force")
    wait_until(lambda: kept.search(house.printed), what="why the rules are the old ones")


def test_explain_says_what_the_server_does(house):
    """The command's answer and exit code are the same on a running and on a stopped server, and what clients meet."""
    cases = [
        (("alice", "subscribe", "home/#"), (True, "rules[3]")),
        (("eve", "subscribe", "home/#"), (False, "default")),
        (("alice", "subscribe", f"home/{THING}/state/pin"), (False, "rules[0]")),
        (("one", "publish", "groups/workers/x"), (True, "rules[4]")),
        (("eve", "subscribe", "lab/x"), (True, "rules_file[0]")),
        (("eve", "publish", "m/eve/out/u/alice/1"), (True, "folder")),
        (("eve", "publish", "m/alice/out/u/eve/1"), (False, "root")),
    ]
    house.rules.write_text("- {allow: subscribe, topic: lab/#}")
    before = house.printed.count("SIGHUP")
    os.kill(house.pid, signal.SIGHUP)
    wait_until(lambda: house.printed.count("SIGHUP") > before)
    running = [explained(house, *about) for about, _ in cases]
    listed = perform(house.data, "acl_list")
    allowed = house.run("acl", "explain", "alice", "subscribe", "home/#")
    house.stop()
    stopped = [explained(house, *about) for about, _ in cases]

    assert [expected for _, expected in cases] == [(answer["allow"], answer["rule"]) for answer in running]
    assert running == stopped
    assert listed == perform(house.data, "acl_list")
    assert {"name": "rules_file[0]", "rule": "{allow: subscribe, topic: lab/#}"} == listed["rules"][-1]
    assert allowed.startswith("allow (rules[3]): alice, subscribe home/#\n")
    with pytest.raises(ServerError, match=r"ended with 1:\ndeny \(default\)"):
        house.run("acl", "explain", "eve", "publish", "home/x")
    with pytest.raises(ServerError, match="ended with 2"):
        house.run("acl", "explain", "eve", "publish", "home/+")


def explained(server, user, action, topic):
    """Return the answer of `acl explain`."""
    return perform(server.data, "acl_explain", user=user, action=action, topic=topic)
