"""Clients that do harm, and policies that fail on them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

from support.client import Client
from support.crowd import Crowd
from support.raw import cut_frames, raw_websocket, text_frame
from support.waiting import wait_until

from faults.fault import Fault
from faults.stage import Stage
from faults.writers import KEPT, PLAIN

TESTS = str(Path(__file__).parent.parent.parent)


class OneSleeper(Fault):
    """Buffers are small, so that they are full soon."""

    name = "one-never-reads"
    says = "1 subscriber never reads, among {fault.crowd:,} that do"
    crowd = 1000
    padding = 3000
    per_second = 6.0
    hold = 15.0
    quick_crowd = 50
    quick_per_second = 25.0
    quick_hold = 1.0
    sleepers = 1

    @property
    def write_timeout(self) -> int:
        """Of the bridge, seconds."""
        return 1 if self.quick else 3

    def settings(self) -> dict[str, object]:
        return {
            "send_buffer_bytes": 16 * 1024,
            "backlog_bytes": 64 * 1024,
            "write_timeout": self.write_timeout,
        }

    def strike(self, stage: Stage) -> None:
        channels = (PLAIN[0], KEPT[0])
        self._sockets = [
            raw_websocket(
                stage.server, f"/ws?channel={channels[number % 2]}", receive_buffer=4096
            )
            for number in range(self.sleepers)
        ]

    def heal(self, stage: Stage) -> None:
        with suppress(AssertionError):
            wait_until(lambda: self._dropped(stage) == self.sleepers)
        for sock in self._sockets:
            sock.close()

    def problems(self, stage: Stage) -> list[str]:
        self.notes.append(
            f"{self._dropped(stage)} of {self.sleepers} were dropped after "
            f"BRIDGE_WRITE_TIMEOUT ({self.write_timeout} s here)."
        )
        wrong = self._dropped(stage) != self.sleepers
        return self.notes if wrong else []

    @staticmethod
    def _dropped(stage: Stage) -> int:
        return stage.log.count("dropped: it does not read")


class Sleepers(OneSleeper):
    name = "200-never-read"
    says = "200 subscribers never read, half of them of durable channels"
    crowd = quick_crowd = 0
    per_second = 12.0
    sleepers = 200
    quick_per_second = 25.0
    quick_hold = 1.0
    quick_sleepers = 40


class Garbage(Fault):
    name = "garbage"
    says = "garbage from 100 connections at a time, for {fault.hold:g} s"
    hold = 10.0
    quick_hold = 1.5

    def strike(self, stage: Stage) -> None:
        self._crowd = Crowd(stage.server, seed=1)
        stage.stack.callback(self._crowd.stop)
        self._crowd.send_garbage(100)

    def heal(self, stage: Stage) -> None:
        self._crowd.stop()
        self.notes.append(f"{self._crowd.garbage_bytes:,} bytes of garbage.")


class Silence(Fault):
    name = "silent"
    says = "2,000 connections that say nothing, and come back when closed"
    hold = 25.0
    quick_hold = 2.0

    def settings(self) -> dict[str, object]:
        return {"handshake_timeout": 0.5} if self.quick else {}

    def strike(self, stage: Stage) -> None:
        self._crowd = Crowd(stage.server, seed=1)
        stage.stack.callback(self._crowd.stop)
        self._crowd.be_silent(2000)

    def heal(self, stage: Stage) -> None:
        self._crowd.stop()
        self.notes.append(f"They connected {self._crowd.connects:,} times.")

    def problems(self, stage: Stage) -> list[str]:
        return [] if self._crowd.connects > 2000 else ["none of them was closed"]


class _Policy(Fault):
    """Everybody but who asks the policy is subscribed to public channels.

    Attributes:
        policy: a class of `support.policies`.
    """

    policy: str
    arguments = ("--pythonpath", TESTS)

    def settings(self) -> dict[str, object]:
        return {
            "public_channels": ",".join(PLAIN + KEPT),
            "access": f"support.policies.{self.policy}",
            "access_timeout": 1 if self.quick else 5,
        }


class PolicyRaises(_Policy):
    name = "policy-raises"
    says = "the access policy raises, at every question for {fault.hold:g} s"
    policy = "ByUserHeader"
    hold = 5.0
    quick_hold = 1.0
    tracebacks = True

    def strike(self, stage: Stage) -> None:
        self._answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(stage,))
        stage.stack.callback(self._stop.set)
        self._thread.start()

    def heal(self, stage: Stage) -> None:
        self._stop.set()
        self._thread.join()

    def problems(self, stage: Stage) -> list[str]:
        self.notes.append(
            "Answers: "
            + ", ".join(f"{n} × {what}" for what, n in self._answers.items())
        )
        wrong = set(self._answers) - {"503", "unavailable"}
        return [f"answered {wrong}"] if wrong else []

    def _ask(self, stage: Stage) -> None:
        while not self._stop.wait(0.02):
            status, _, _ = stage.server.upgrade("/ws?channel=raise", X_User="raise")
            self._answers[str(status)] += 1
            with Client(stage.server, additional_headers={"X-User": "anna"}) as client:
                self._answers[client.subscribe("raise")["code"]] += 1


class PolicyBlocks(_Policy):
    name = "policy-blocks"
    says = "the access policy blocks for {fault.hold:g} s, at each of 100 questions"
    policy = "Sleeps"
    hold = 30.0
    quick_hold = 3.0

    def strike(self, stage: Stage) -> None:
        # All are there before the first asks: later ones would be refused.
        self._sockets = [raw_websocket(stage.server) for _ in range(100)]
        channel = f"sleep_{self.hold:g}"
        for sock in self._sockets:
            sock.sendall(text_frame({"type": "subscribe", "channel": channel}))
        self._newcomer, _, _ = stage.server.upgrade(f"/ws?channel={PLAIN[0]}")

    def heal(self, stage: Stage) -> None:
        self._codes: Counter[str] = Counter()
        for sock in self._sockets:
            with sock, suppress(TimeoutError):
                sock.settimeout(1)
                rest = b""
                while b'"code":' not in rest:
                    rest += sock.recv(65536)
                for opcode, message in cut_frames(rest)[0]:
                    if opcode == 0x1 and b'"code":' in message:
                        self._codes[json.loads(message)["code"]] += 1

    def problems(self, stage: Stage) -> list[str]:
        if self._codes != {"unavailable": 100}:
            return [f"answered {dict(self._codes)}"]
        if self._newcomer != 101:
            return [f"who came for a public channel was answered {self._newcomer}"]
        self.notes.append(
            "All 100 were answered `unavailable`; who came meanwhile for a public "
            "channel was let in."
        )
        return []


FAULTS = (OneSleeper, Sleepers, Garbage, Silence, PolicyRaises, PolicyBlocks)
