/**
 * The browser client against a WebSocket that the test plays the server of.
 *
 *     node --experimental-websocket --test tests/js/
 *
 * Time stands still but for `advance`, and chance is what the test says it is.
 */
import assert from "node:assert/strict"
import { afterEach, beforeEach, describe, mock, test } from "node:test"

import { NO_RECONNECT, RECONNECT, connect } from "../../static/client/pgbridge.js"

const URL = "ws://bridge.test/ws"

/** A WebSocket whose other end is the test. */
class Socket {
  /** @type {Socket[]} every one that was opened, oldest first */
  static all = []

  readyState = 0
  /** What the client sent, parsed. */
  sent = []
  /** The code the client closed with. */
  closedWith = null

  constructor(url, protocol) {
    this.url = url
    this.protocol = protocol
    Socket.all.push(this)
  }

  send(text) {
    assert.equal(this.readyState, 1, "sent before the connection was open")
    this.sent.push(JSON.parse(text))
  }

  close(code) {
    this.closedWith = code
    this.readyState = 3
  }

  /** The server accepts and says its first message. */
  welcome(fields = {}) {
    this.readyState = 1
    this.say({
      type: "welcome", protocol: 1, heartbeat_interval: 25, max_channels: 128,
      authenticated: false, ...fields,
    })
  }

  say(message) {
    this.sayText(JSON.stringify(message))
  }

  sayText(data) {
    this.onmessage?.({ data })
  }

  /** The connection ends from the other side. */
  end(code = 1006, reason = "") {
    this.readyState = 3
    this.onclose?.({ code, reason })
  }
}

/** The socket opened last. */
const socket = () => Socket.all.at(-1)

/** What the client is told of its connection: [state, detail], oldest first. */
let states
/** @type {import("../../static/client/pgbridge.d.ts").Bridge} */
let bridge
/** What `random` returns. */
let chance

function start(options = {}) {
  const onState = (state, detail) => states.push([state, detail])
  bridge = connect(URL, { WebSocket: Socket, random: () => chance, onState, ...options })
  return bridge
}

/** Let seconds pass in small steps, as timers set timers. */
function advance(seconds) {
  for (let step = 0; step < Math.round(seconds * 20); step += 1) mock.timers.tick(50)
}

/** Lose the connection and have the next one, which is welcomed. */
function reconnect() {
  socket().end()
  advance(31)
  socket().welcome()
}

function subscribed(channel, fields = {}) {
  socket().say({ type: "subscribed", channel, durable: false, resumed: false, ...fields })
}

function notify(channel, fields) {
  socket().say({ type: "notification", channel, ...fields })
}

/** A function that keeps what it was called with. */
function recorder() {
  const calls = []
  return Object.assign((...args) => void calls.push(args), { calls })
}

beforeEach(() => {
  Socket.all = []
  states = []
  chance = 0.5
  mock.timers.enable({ apis: ["setTimeout", "Date"] })
})

afterEach(() => {
  bridge?.close()
  mock.timers.reset()
  mock.restoreAll()
})

describe("connecting", () => {
  test("offers the subprotocol of the wire", () => {
    start()

    assert.equal(socket().protocol, "pgbridge.v1")
  })

  test("resolves a relative URL against the page", () => {
    globalThis.location = { href: "https://example.test/admin/?page=2" }

    bridge = connect("/ws", { WebSocket: Socket })

    delete globalThis.location
    assert.equal(socket().url, "wss://example.test/ws")
  })

  test("makes ws of http", () => {
    bridge = connect("http://127.0.0.1:8001/ws", { WebSocket: Socket })

    assert.equal(socket().url, "ws://127.0.0.1:8001/ws")
  })

  test("refuses a URL that is none", () => {
    assert.throws(() => connect("/ws", { WebSocket: Socket }), { name: "TypeError" })
  })

  test("is open once the server said welcome", () => {
    start()
    assert.equal(bridge.state, "connecting")

    socket().welcome()

    assert.equal(bridge.state, "open")
    assert.deepEqual(states, [["connecting", {}], ["open", {}]])
  })

  test("gives up a connection without welcome after 15 seconds", () => {
    start()
    const first = socket()

    advance(14.9)
    assert.equal(bridge.state, "connecting")
    advance(0.2)

    assert.equal(bridge.state, "waiting")
    assert.equal(first.closedWith, 1000)
  })

  test("shows every message as it arrives, also of unknown types", () => {
    const onMessage = recorder()
    start({ onMessage })
    socket().welcome()

    socket().say({ type: "weather", sky: "blue" })

    const types = onMessage.calls.map(([message]) => message.type)
    assert.deepEqual(types, ["welcome", "weather"])
  })
})

describe("subscribing", () => {
  test("waits for the open connection", () => {
    start()
    bridge.subscribe("watchers_7", () => {})
    assert.deepEqual(socket().sent, [])

    socket().welcome()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "watchers_7" }])
  })

  test("is sent at once when open", () => {
    start()
    socket().welcome()

    bridge.subscribe("watchers_7", () => {})

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "watchers_7" }])
  })

  test("in onState is sent once", () => {
    start({ onState: (state) => state === "open" && bridge.subscribe("a", () => {}) })

    socket().welcome()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
  })

  test("sends the cursor it was given", () => {
    start()
    bridge.subscribe("orders", () => {}, { cursor: "3-7" })

    socket().welcome()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "orders", cursor: "3-7" }])
  })

  test("hands over data, and the whole message", () => {
    const handler = recorder()
    start()
    bridge.subscribe("a", handler)
    socket().welcome()
    subscribed("a")

    notify("a", { data: { pk: 1 }, extra: true })

    const message = { type: "notification", channel: "a", data: { pk: 1 }, extra: true }
    assert.deepEqual(handler.calls, [[{ pk: 1 }, message]])
  })

  test("hands over text where there is no data", () => {
    const handler = recorder()
    start()
    bridge.subscribe("a", handler)
    socket().welcome()
    subscribed("a")

    notify("a", { text: "" })

    assert.deepEqual(handler.calls, [["", { type: "notification", channel: "a", text: "" }]])
  })

  test("is told when it is in force, interrupted and restored", () => {
    const onSubscribed = recorder()
    const onInterrupted = recorder()
    const onRestored = recorder()
    start()
    bridge.subscribe("a", () => {}, { onSubscribed, onInterrupted, onRestored })
    socket().welcome()

    subscribed("a", { durable: true })
    socket().say({ type: "interrupted", channel: "a", reason: "listener_lost" })
    socket().say({ type: "restored", channel: "a" })

    const answer = { type: "subscribed", channel: "a", durable: true, resumed: false }
    assert.deepEqual(onSubscribed.calls, [[answer]])
    const away = { type: "interrupted", channel: "a", reason: "listener_lost" }
    assert.deepEqual(onInterrupted.calls, [[away]])
    assert.deepEqual(onRestored.calls, [[{ type: "restored", channel: "a" }]])
  })

  test("a channel is not told of another one", () => {
    const handler = recorder()
    start()
    bridge.subscribe("a", handler)
    socket().welcome()
    subscribed("a")

    notify("b", { text: "x" })

    assert.deepEqual(handler.calls, [])
  })
})

describe("sharing a channel", () => {
  test("sends one subscribe for two handlers, and calls both", () => {
    const first = recorder()
    const second = recorder()
    start()
    bridge.subscribe("a", first)
    bridge.subscribe("a", second)
    socket().welcome()
    subscribed("a")

    notify("a", { text: "x" })

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
    assert.equal(first.calls.length, 1)
    assert.equal(second.calls.length, 1)
  })

  test("tells a newcomer that the channel is subscribed, after subscribe returned", async () => {
    const onSubscribed = recorder()
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")

    bridge.subscribe("a", () => {}, { onSubscribed })
    assert.deepEqual(onSubscribed.calls, [])
    await null

    const answer = { type: "subscribed", channel: "a", durable: false, resumed: false }
    assert.deepEqual(onSubscribed.calls, [[answer]])
  })

  test("stays subscribed until the last handler has left", () => {
    start()
    const one = bridge.subscribe("a", () => {})
    const other = bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")

    one.unsubscribe()
    assert.equal(socket().sent.length, 1)
    other.unsubscribe()

    assert.deepEqual(socket().sent[1], { type: "unsubscribe", channel: "a" })
  })

  test("a handler that another one removed is not called any more", () => {
    const second = recorder()
    start()
    bridge.subscribe("a", () => other.unsubscribe())
    const other = bridge.subscribe("a", second)
    socket().welcome()
    subscribed("a")

    notify("a", { text: "x" })

    assert.deepEqual(second.calls, [])
  })

  test("a handler that throws stops no other one, and is reported in a task", () => {
    const second = recorder()
    start()
    bridge.subscribe("a", () => { throw new Error("of the page") })
    bridge.subscribe("a", second)
    socket().welcome()
    subscribed("a")

    notify("a", { text: "x" })

    assert.equal(second.calls.length, 1)
    assert.throws(() => mock.timers.tick(1), { message: "of the page" })
  })
})

describe("unsubscribing", () => {
  test("twice is once", () => {
    start()
    const subscription = bridge.subscribe("a", () => {})
    socket().welcome()

    subscription.unsubscribe()
    subscription.unsubscribe()

    const sent = [{ type: "subscribe", channel: "a" }, { type: "unsubscribe", channel: "a" }]
    assert.deepEqual(socket().sent, sent)
  })

  test("before the connection is open leaves nothing to send", () => {
    start()
    bridge.subscribe("a", () => {}).unsubscribe()

    socket().welcome()

    assert.deepEqual(socket().sent, [])
  })

  test("is not undone by a reconnect", () => {
    start()
    const subscription = bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")

    subscription.unsubscribe()
    reconnect()

    assert.deepEqual(socket().sent, [])
  })

  test("and subscribing again begins anew, and hears nothing of before", () => {
    const handler = recorder()
    const onUnsubscribed = recorder()
    start()
    const former = bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")
    former.unsubscribe()

    bridge.subscribe("a", handler, { onUnsubscribed })
    notify("a", { text: "on its way before" })
    socket().say({ type: "unsubscribed", channel: "a", reason: "requested" })
    subscribed("a")
    notify("a", { text: "new" })

    assert.deepEqual(socket().sent[2], { type: "subscribe", channel: "a" })
    assert.deepEqual(handler.calls.map(([data]) => data), ["new"])
    assert.deepEqual(onUnsubscribed.calls, [])
  })

  for (const reason of ["revoked", "expired"]) {
    test(`by the server (${reason}) is told, and lasts over a reconnect`, () => {
      const onUnsubscribed = recorder()
      start()
      bridge.subscribe("a", () => {}, { onUnsubscribed })
      socket().welcome()
      subscribed("a")

      socket().say({ type: "unsubscribed", channel: "a", reason })
      reconnect()

      const message = { type: "unsubscribed", channel: "a", reason }
      assert.deepEqual(onUnsubscribed.calls, [[message]])
      assert.deepEqual(socket().sent, [])
    })
  }
})

describe("after a reconnect", () => {
  test("a channel that was subscribed is resumed without cursor when it has none", () => {
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")

    reconnect()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a", resume: true }])
  })

  test("a channel that was never subscribed is asked for as at first", () => {
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()

    reconnect()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
  })

  test("a channel is resumed also when the connection between did not subscribe it", () => {
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a")

    reconnect()
    reconnect()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a", resume: true }])
  })

  test("each channel is resumed after its own last cursor", () => {
    start()
    bridge.subscribe("a", () => {})
    bridge.subscribe("b", () => {})
    socket().welcome()
    subscribed("a", { durable: true, cursor: "1-10" })
    subscribed("b", { durable: true, cursor: "1-11" })
    notify("a", { text: "x", cursor: "1-12" })

    reconnect()

    assert.deepEqual(socket().sent, [
      { type: "subscribe", channel: "a", resume: true, cursor: "1-12" },
      { type: "subscribe", channel: "b", resume: true, cursor: "1-11" },
    ])
  })

  test("the cursor of a resumed subscription does not run ahead of its replay", () => {
    start()
    bridge.subscribe("a", () => {}, { cursor: "1-5" })
    socket().welcome()
    subscribed("a", { durable: true, resumed: true, cursor: "1-90" })

    reconnect()

    const again = { type: "subscribe", channel: "a", resume: true, cursor: "1-5" }
    assert.deepEqual(socket().sent, [again])
  })

  test("the cursor of a gap is where the channel goes on", () => {
    start()
    bridge.subscribe("a", () => {}, { cursor: "1-5" })
    socket().welcome()
    subscribed("a", { durable: true })
    socket().say({
      type: "gap", channel: "a", reason: "expired", cursor: "1-70", reload_window: 0,
    })

    reconnect()

    const again = { type: "subscribe", channel: "a", resume: true, cursor: "1-70" }
    assert.deepEqual(socket().sent, [again])
  })

  test("the cursor is kept after the handler has returned", () => {
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()
    subscribed("a", { durable: true, cursor: "1-5" })

    notify("a", { text: "x", cursor: "1-6" })
    reconnect()

    const again = { type: "subscribe", channel: "a", resume: true, cursor: "1-6" }
    assert.deepEqual(socket().sent, [again])
  })

  test("the cursor is not kept while the handler still runs", () => {
    start()
    bridge.subscribe("a", reconnect)
    socket().welcome()
    subscribed("a", { durable: true, cursor: "1-5" })

    notify("a", { text: "x", cursor: "1-6" })

    const again = { type: "subscribe", channel: "a", resume: true, cursor: "1-5" }
    assert.deepEqual(socket().sent, [again])
  })

  test("a notification whose handler threw is asked for again", () => {
    start()
    bridge.subscribe("a", () => { throw new Error("of the page") })
    socket().welcome()
    subscribed("a", { durable: true, cursor: "1-5" })

    notify("a", { text: "x", cursor: "1-6" })
    assert.throws(() => mock.timers.tick(1), { message: "of the page" })
    reconnect()

    const again = { type: "subscribe", channel: "a", resume: true, cursor: "1-5" }
    assert.deepEqual(socket().sent, [again])
  })

  test("what the old socket still says is not heard", () => {
    const handler = recorder()
    start()
    bridge.subscribe("a", handler)
    socket().welcome()
    subscribed("a")
    const old = socket()

    reconnect()
    old.say({ type: "notification", channel: "a", text: "late" })
    old.end(4503)

    assert.deepEqual(handler.calls, [])
    assert.equal(bridge.state, "open")
  })
})

describe("the wait before a reconnect", () => {
  /** Fail so many times; returns the delays. */
  function delaysOf(failures) {
    start()
    for (let count = 0; count < failures; count += 1) {
      socket().end()
      advance(31)
    }
    return states.filter(([state]) => state === "waiting").map(([, detail]) => detail.delay)
  }

  test("doubles its bound from half a second to 30 seconds", () => {
    chance = 0.999999

    const delays = delaysOf(9)

    const bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert.deepEqual(delays.map((delay) => Math.round(delay * 1000) / 1000), bounds)
  })

  test("is a uniform part of the bound", () => {
    chance = 0.25

    assert.deepEqual(delaysOf(4), [0.125, 0.25, 0.5, 1])
  })

  test("may be nothing", () => {
    chance = 0

    assert.deepEqual(delaysOf(3), [0, 0, 0])
  })

  test("is as long as it says", () => {
    start()
    socket().end()

    advance(0.2)
    assert.equal(Socket.all.length, 1)
    advance(0.1)

    assert.equal(Socket.all.length, 2)
  })

  test("starts small again after a connection that lived", () => {
    start()
    for (let count = 0; count < 4; count += 1) {
      socket().end()
      advance(31)
    }
    socket().welcome()

    advance(10)
    socket().end()

    assert.deepEqual(states.at(-1), ["waiting", { delay: 0.25 }])
  })

  test("grows also when the server accepts and closes at once", () => {
    start()

    for (let count = 0; count < 3; count += 1) {
      socket().welcome()
      socket().end()
      advance(31)
    }

    const delays = states.filter(([state]) => state === "waiting").map(([, detail]) => detail.delay)
    assert.deepEqual(delays, [0.25, 0.5, 1])
  })

  test("is what the server asked for, and the jitter on top", () => {
    start()
    socket().welcome()

    socket().say({ type: "bye", reason: "restart", reconnect_delay: 3 })
    socket().end(1012)

    assert.deepEqual(states.at(-1), ["waiting", { delay: 3.25 }])
  })

  test("is as the server asked only once", () => {
    start()
    socket().welcome()
    socket().say({ type: "bye", reason: "restart", reconnect_delay: 3 })
    socket().end(1012)
    advance(4)

    socket().end()

    assert.deepEqual(states.at(-1), ["waiting", { delay: 0.5 }])
  })

  test("ends when the bridge is closed", () => {
    start()
    socket().end()

    bridge.close()
    advance(60)

    assert.equal(Socket.all.length, 1)
    assert.equal(bridge.state, "closed")
  })
})

describe("close codes", () => {
  for (const code of [1001, 1011, 1012, 1013, 4001, 4002, 4008, 4009]) {
    test(`after ${code} the client connects again`, () => {
      start()
      socket().welcome()

      socket().end(code)
      advance(1)

      assert.equal(Socket.all.length, 2)
      assert.ok(code in RECONNECT)
    })
  }

  for (const code of [1005, 1006, 4999]) {
    test(`after ${code}, which is in no table, the client connects again`, () => {
      start()
      socket().welcome()

      socket().end(code)
      advance(1)

      assert.equal(Socket.all.length, 2)
    })
  }

  for (const code of [1000, 1002, 1003, 1007, 1009, 4500, 4501, 4503, 4504, 4505]) {
    test(`after ${code} it does not, and says why`, () => {
      start()
      socket().welcome()

      socket().end(code, "the server's words")
      advance(60)

      assert.equal(Socket.all.length, 1)
      assert.deepEqual(states.at(-1), ["closed", { code, reason: "the server's words" }])
    })
  }

  test("give the reason where the server gives none", () => {
    start()

    socket().end(4503)

    assert.deepEqual(states.at(-1), ["closed", { code: 4503, reason: "forbidden" }])
  })

  test("are all tried here, each in one table", () => {
    const codes = [...Object.keys(RECONNECT), ...Object.keys(NO_RECONNECT)]

    assert.deepEqual(codes.map(Number).sort((a, b) => a - b), [
      1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013,
      4001, 4002, 4008, 4009, 4500, 4501, 4503, 4504, 4505,
    ])
  })

  test("close() sends 1000, says closed once and calls nothing later", () => {
    const onGap = recorder()
    start()
    bridge.subscribe("a", () => {}, { onGap })
    socket().welcome()
    subscribed("a")
    socket().say({ type: "gap", channel: "a", reason: "slow", reload_window: 2 })

    bridge.close()
    bridge.close()
    advance(60)

    assert.equal(socket().closedWith, 1000)
    const closed = states.filter(([state]) => state === "closed")
    assert.deepEqual(closed, [["closed", { code: 1000, reason: "closed by the page" }]])
    assert.deepEqual(onGap.calls, [])
  })
})

describe("silence", () => {
  test("of two heartbeat intervals asks the server", () => {
    start()
    socket().welcome({ heartbeat_interval: 25 })

    advance(49.9)
    assert.deepEqual(socket().sent, [])
    advance(0.2)

    assert.deepEqual(socket().sent, [{ type: "ping" }])
  })

  test("of five more seconds drops the connection without waiting for its close", () => {
    start()
    socket().welcome()
    const dead = socket()

    advance(54.9)
    assert.equal(bridge.state, "open")
    advance(0.2)

    assert.deepEqual(states.at(-1), ["waiting", { delay: 0.25 }])
    assert.equal(dead.closedWith, 1000)
  })

  test("ends with any message", () => {
    start()
    socket().welcome()

    advance(49)
    socket().say({ type: "heartbeat" })
    advance(49)

    assert.deepEqual(socket().sent, [])
    assert.equal(bridge.state, "open")
  })

  test("ends with the answer to the ping", () => {
    start()
    socket().welcome()

    advance(51)
    socket().say({ type: "pong" })
    advance(10)

    assert.deepEqual(socket().sent, [{ type: "ping" }])
    assert.equal(bridge.state, "open")
  })

  test("is measured with the server's interval", () => {
    start()
    socket().welcome({ heartbeat_interval: 2 })

    advance(9.1)

    assert.equal(bridge.state, "waiting")
  })

  test("means nothing where the server sends no heartbeats", () => {
    start()
    socket().welcome({ heartbeat_interval: 0 })

    advance(600)

    assert.equal(bridge.state, "open")
    assert.deepEqual(socket().sent, [])
  })

  test("after a sleep of the machine asks before it drops", () => {
    start()
    socket().welcome()

    mock.timers.setTime(Date.now() + 3_600_000)
    advance(5)
    assert.deepEqual(socket().sent, [{ type: "ping" }])
    socket().say({ type: "heartbeat" })
    advance(20)

    assert.equal(bridge.state, "open")
  })
})

describe("a page that wakes up", () => {
  beforeEach(() => {
    const page = new EventTarget()
    globalThis.document = Object.assign(new EventTarget(), { hidden: false })
    globalThis.addEventListener = page.addEventListener.bind(page)
    globalThis.dispatchEvent = page.dispatchEvent.bind(page)
  })

  afterEach(() => {
    bridge.close()
    delete globalThis.document
    delete globalThis.addEventListener
    delete globalThis.dispatchEvent
  })

  const wakings = {
    online: () => globalThis.dispatchEvent(new Event("online")),
    visible: () => document.dispatchEvent(new Event("visibilitychange")),
  }
  for (const [name, wake] of Object.entries(wakings)) {
    test(`(${name}) asks the server at once, and drops it after 5 seconds`, () => {
      start()
      socket().welcome()
      advance(1)

      wake()
      assert.deepEqual(socket().sent, [{ type: "ping" }])
      advance(4.9)
      assert.equal(bridge.state, "open")
      advance(0.2)

      assert.equal(bridge.state, "waiting")
    })

    test(`(${name}) tries soon again where it would have waited long`, () => {
      start()
      for (let count = 0; count < 6; count += 1) {
        socket().end()
        advance(31)
      }
      socket().end()

      wake()

      assert.deepEqual(states.at(-1), ["waiting", { delay: 0.25 }])
    })

    test(`(${name}) still waits as long as the server asked`, () => {
      start()
      socket().welcome()
      socket().say({ type: "bye", reason: "overloaded", reconnect_delay: 20 })
      socket().end(1013)

      wake()
      advance(19)

      assert.equal(Socket.all.length, 1)
    })

    test(`(${name}) does nothing to a closed bridge`, () => {
      start()
      bridge.close()

      wake()
      advance(60)

      assert.equal(Socket.all.length, 1)
    })
  }

  test("twice asks once, and does not prolong the time for the answer", () => {
    start()
    socket().welcome()

    wakings.visible()
    advance(3)
    wakings.online()
    advance(2.1)

    assert.equal(bridge.state, "waiting")
  })

  test("does not when it is hidden", () => {
    start()
    socket().welcome()
    document.hidden = true

    wakings.visible()

    assert.deepEqual(socket().sent, [])
  })
})

describe("a gap", () => {
  const gap = { type: "gap", channel: "a", reason: "listener_lost", since: 100, reload_window: 8 }

  /** Subscribe to `a`; returns what `onGap` is called with. */
  function watch() {
    const onGap = recorder()
    start()
    bridge.subscribe("a", () => {}, { onGap })
    socket().welcome()
    subscribed("a")
    return onGap
  }

  test("is told after a random part of its window", () => {
    const onGap = watch()
    chance = 0.75

    socket().say(gap)
    advance(5.9)
    assert.deepEqual(onGap.calls, [])
    advance(0.2)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  test("and another one within the window are told once, as the first", () => {
    const onGap = watch()

    socket().say(gap)
    advance(1)
    socket().say({ ...gap, since: 101, reason: "slow" })
    advance(60)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  test("after the window is told again", () => {
    const onGap = watch()

    socket().say(gap)
    advance(8)
    socket().say({ ...gap, since: 200 })
    advance(8)

    assert.deepEqual(onGap.calls, [[gap], [{ ...gap, since: 200 }]])
  })

  test("is told also when the connection is lost meanwhile", () => {
    const onGap = watch()

    socket().say(gap)
    socket().end()
    advance(8)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  test("is not told to who has left", () => {
    const onGap = recorder()
    start()
    const subscription = bridge.subscribe("a", () => {}, { onGap })
    socket().welcome()
    subscribed("a")

    socket().say(gap)
    subscription.unsubscribe()
    advance(8)

    assert.deepEqual(onGap.calls, [])
  })
})

describe("an error", () => {
  /** Subscribe to `a`, which is refused; returns what `onError` is called with. */
  function refuse(error) {
    const onError = recorder()
    start()
    bridge.subscribe("a", () => {}, { onError })
    socket().welcome()
    socket().say({ type: "error", channel: "a", message: "no", ...error })
    return onError
  }

  for (const code of ["unavailable", "rate_limited", "internal"]) {
    test(`${code} is told, and the channel asked for again after its delay`, () => {
      chance = 0
      const onError = refuse({ code, retry_delay: 4 })

      advance(3.9)
      assert.equal(socket().sent.length, 1)
      advance(0.2)

      const message = { type: "error", channel: "a", message: "no", code, retry_delay: 4 }
      assert.deepEqual(onError.calls, [[message]])
      assert.deepEqual(socket().sent[1], { type: "subscribe", channel: "a" })
    })
  }

  test("that passes is retried up to half later than it says", () => {
    chance = 0.999
    refuse({ code: "unavailable", retry_delay: 4 })

    advance(5.9)
    assert.equal(socket().sent.length, 1)
    advance(0.2)

    assert.equal(socket().sent.length, 2)
  })

  test("that passes and names no delay is retried after 30 seconds", () => {
    chance = 0
    refuse({ code: "unavailable" })

    advance(29.9)
    assert.equal(socket().sent.length, 1)
    advance(0.2)

    assert.equal(socket().sent.length, 2)
  })

  test("that passes is not retried by a timer of a former connection", () => {
    refuse({ code: "unavailable", retry_delay: 4 })

    socket().end()
    advance(1)
    socket().welcome()
    advance(10)

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
  })

  test("that passes is not retried for who has left, nor is there one to leave", () => {
    start()
    const subscription = bridge.subscribe("a", () => {})
    socket().welcome()
    socket().say({ type: "error", channel: "a", message: "no", code: "unavailable", retry_delay: 4 })

    subscription.unsubscribe()
    advance(10)

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
  })

  for (const code of ["forbidden", "bad_channel", "not_authenticated", "too_many_channels"]) {
    test(`${code} is told and not retried, nor after a reconnect`, () => {
      const onError = refuse({ code })

      advance(60)
      assert.equal(socket().sent.filter(({ type }) => type === "subscribe").length, 1)
      reconnect()

      assert.deepEqual(onError.calls, [[{ type: "error", channel: "a", message: "no", code }]])
      assert.deepEqual(socket().sent, [])
    })
  }

  test("that is final does not keep the page from subscribing anew", () => {
    refuse({ code: "forbidden" })

    bridge.subscribe("a", () => {})

    assert.deepEqual(socket().sent[1], { type: "subscribe", channel: "a" })
  })
})

describe("what is not a message", () => {
  for (const text of ["not JSON", "{", ""]) {
    test(`${JSON.stringify(text)} is ignored with a warning`, () => {
      const warn = mock.method(console, "warn", () => {})
      start()
      socket().welcome()

      socket().sayText(text)

      const warning = ["pgbridge: this is not JSON:", text]
      assert.deepEqual(warn.mock.calls.map((call) => call.arguments), [warning])
      assert.equal(bridge.state, "open")
    })
  }

  for (const text of ["null", "7", "[]", "{}", '{"type":"constructor","channel":"a"}']) {
    test(`${text} is ignored`, () => {
      start()
      bridge.subscribe("a", () => {})
      socket().welcome()

      socket().sayText(text)

      assert.equal(bridge.state, "open")
      assert.equal(socket().sent.length, 1)
    })
  }
})
