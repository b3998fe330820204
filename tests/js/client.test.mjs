/**
 * The browser client against a WebSocket whose server the test plays.
 *
 *     node --experimental-websocket --test tests/js/
 *
 * Time stands still but for `advance`, and chance is what the test says.
 */
import assert from "node:assert/strict"
import { afterEach, beforeEach, describe, mock, test } from "node:test"

import { NO_RECONNECT, RECONNECT, connect } from "../../static/client/pgbridge.js"

/** A WebSocket whose other end is the test. */
class Socket {
  /** @type {Socket[]} every one that was opened, oldest first */
  static all = []

  readyState = 0
  /** What the client sent, parsed, without the ids. */
  sent = []
  /** The ids of it; a ping has none. */
  ids = []
  /** The code the client closed with. */
  closedWith = null

  constructor(url, protocol) {
    this.url = url
    this.protocol = protocol
    Socket.all.push(this)
  }

  send(text) {
    assert.equal(this.readyState, 1, "sent on a socket that is not open")
    const { id, ...message } = JSON.parse(text)
    this.sent.push(message)
    this.ids.push(id)
  }

  close(code) {
    this.closedWith = code
    this.readyState = 3
  }

  /** The server accepts and says its first message. */
  welcome(heartbeat_interval = 25) {
    this.readyState = 1
    this.say({ type: "welcome", protocol: 1, heartbeat_interval, max_channels: 128 })
  }

  /** The id of the last request for `channel`. */
  asked(channel) {
    return this.ids[this.sent.findLastIndex((message) => message.channel === channel)]
  }

  /** The server says `message`, an object or, raw, a string. */
  say(message) {
    const data = typeof message === "string" ? message : JSON.stringify(message)
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

/** @type {import("../../static/client/pgbridge.d.ts").Bridge} */
let bridge
/** What the page was told of the connection: [state, detail], oldest first. */
let states
/** What `random` returns. */
let chance

function start(options = {}) {
  const onState = (state, detail) => states.push([state, detail])
  const doubles = { WebSocket: Socket, random: () => chance }
  bridge = connect("ws://bridge.test/ws", { ...doubles, onState, ...options })
}

/** Start, subscribe to `a` and have it in force. */
function live({ handler = () => {}, answer = {}, ...callbacks } = {}) {
  start()
  const subscription = bridge.subscribe("a", handler, callbacks)
  socket().welcome()
  subscribed("a", answer)
  return subscription
}

function subscribed(channel, fields = {}) {
  const id = socket().asked(channel)
  const plain = { durable: false, resumed: false, id }
  socket().say({ type: "subscribed", channel, ...plain, ...fields })
}

function notify(channel, fields) {
  socket().say({ type: "notification", channel, ...fields })
}

/** Let seconds pass in small steps, as timers set timers. */
function advance(seconds) {
  for (let step = 0; step < Math.round(seconds * 20); step += 1) mock.timers.tick(50)
}

/** Lose the connection and stay until the next try. */
function lose() {
  const before = Socket.all.length
  socket().end()
  while (Socket.all.length === before) advance(0.05)
}

function reconnect() {
  lose()
  socket().welcome()
}

/** The delays the page was told, in seconds. */
function delays() {
  return states.filter(([state]) => state === "waiting").map(([, { delay }]) => delay)
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
  bridge.close()
  mock.timers.reset()
  mock.restoreAll()
})

describe("connecting", () => {
  test("offers the subprotocol of the wire", () => {
    start()

    assert.equal(socket().protocol, "pgbridge.v1")
  })

  const addresses = [
    ["/ws", "https://site.test/admin/?page=2", "wss://site.test/ws"],
    ["ws", "http://site.test/admin/", "ws://site.test/admin/ws"],
    ["http://127.0.0.1:8001/ws", undefined, "ws://127.0.0.1:8001/ws"],
    ["wss://bridge.test/ws", undefined, "wss://bridge.test/ws"],
  ]
  for (const [url, href, address] of addresses) {
    test(`to ${url} on the page ${href} opens ${address}`, () => {
      globalThis.location = { href }

      bridge = connect(url, { WebSocket: Socket })

      delete globalThis.location
      assert.equal(socket().url, address)
    })
  }

  test("is open once the server said welcome", () => {
    start()
    assert.equal(bridge.state, "connecting")

    socket().welcome()

    assert.equal(bridge.state, "open")
    assert.deepEqual(states, [["connecting", {}], ["open", {}]])
  })

  test("gives up after 15 seconds without welcome", () => {
    start()
    const first = socket()

    advance(14.9)
    assert.equal(bridge.state, "connecting")
    advance(0.1)

    assert.equal(bridge.state, "waiting")
    assert.equal(first.closedWith, 1000)
  })

  test("goes on where the platform reports nothing but an error", () => {
    start()

    socket().onerror()

    assert.equal(bridge.state, "waiting")
  })

  test("shows the page every message as it arrives, of unknown types too", () => {
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
    bridge.subscribe("a", () => {}, { cursor: "1-5" })

    socket().welcome()

    const subscribe = { type: "subscribe", channel: "a", cursor: "1-5" }
    assert.deepEqual(socket().sent, [subscribe])
  })

  test("hands over data with the whole message", () => {
    const handler = recorder()
    live({ handler })

    notify("a", { data: { pk: 1 }, later: true })

    const message = { type: "notification", channel: "a", data: { pk: 1 }, later: true }
    assert.deepEqual(handler.calls, [[{ pk: 1 }, message]])
  })

  test("hands over text where there is no data", () => {
    const handler = recorder()
    live({ handler })

    notify("a", { text: "" })

    const message = { type: "notification", channel: "a", text: "" }
    assert.deepEqual(handler.calls, [["", message]])
  })

  for (const [name, message] of [
    ["onInterrupted", { type: "interrupted", channel: "a", reason: "listener_lost" }],
    ["onRestored", { type: "restored", channel: "a" }],
  ]) {
    test(`is told of ${message.type} at once`, () => {
      const callback = recorder()
      live({ [name]: callback })

      socket().say(message)

      assert.deepEqual(callback.calls, [[message]])
    })
  }

  test("is told of the answer at once", () => {
    const onSubscribed = recorder()
    live({ onSubscribed })

    assert.deepEqual(onSubscribed.calls.map(([{ type }]) => type), ["subscribed"])
  })

  test("is told that the source is away before there is an answer", () => {
    const onInterrupted = recorder()
    start()
    bridge.subscribe("a", () => {}, { onInterrupted })
    socket().welcome()

    socket().say({ type: "interrupted", channel: "a", reason: "listener_lost" })

    assert.equal(onInterrupted.calls.length, 1)
  })

  test("is not told of another channel", () => {
    const handler = recorder()
    live({ handler })

    notify("b", { text: "x" })

    assert.deepEqual(handler.calls, [])
  })
})

describe("sharing a channel", () => {
  test("sends one subscribe for two handlers and calls both", () => {
    const first = recorder()
    const second = recorder()
    live({ handler: first })
    bridge.subscribe("a", second)

    notify("a", { text: "x" })

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
    assert.equal(first.calls.length, 1)
    assert.equal(second.calls.length, 1)
  })

  test("tells a newcomer that it is in force, later than subscribe", async () => {
    const onSubscribed = recorder()
    live()

    bridge.subscribe("a", () => {}, { onSubscribed })
    assert.deepEqual(onSubscribed.calls, [])
    await null

    assert.deepEqual(onSubscribed.calls.map(([{ type }]) => type), ["subscribed"])
  })

  test("tells a newcomer nothing while the connection is lost", async () => {
    const onSubscribed = recorder()
    live()

    lose()
    bridge.subscribe("a", () => {}, { onSubscribed })
    await null

    assert.deepEqual(onSubscribed.calls, [])
  })

  test("leaves the channel with its last handler", () => {
    const first = live()
    const second = bridge.subscribe("a", () => {})

    first.unsubscribe()
    assert.equal(socket().sent.length, 1)
    second.unsubscribe()

    assert.deepEqual(socket().sent[1], { type: "unsubscribe", channel: "a" })
  })

  test("does not call a handler that the one before removed", () => {
    const second = recorder()
    live({ handler: () => other.unsubscribe() })
    const other = bridge.subscribe("a", second)

    notify("a", { text: "x" })

    assert.deepEqual(second.calls, [])
  })

  test("calls the next handler when one throws, and throws it again later", () => {
    const second = recorder()
    const later = mock.method(globalThis, "queueMicrotask", () => {})
    live({ handler: () => { throw new Error("of the page") } })
    bridge.subscribe("a", second)

    notify("a", { text: "x" })

    assert.equal(second.calls.length, 1)
    assert.throws(later.mock.calls.at(-1).arguments[0], { message: "of the page" })
  })
})

describe("mounted, unmounted and mounted again in one go", () => {
  const durable = { durable: true, cursor: "1-5" }

  /** Two requests for `a` under way; the first was given up before any answer. */
  function remount(callbacks = {}) {
    const handler = recorder()
    start()
    socket().welcome()
    bridge.subscribe("a", () => {}).unsubscribe()
    const [first] = socket().ids
    bridge.subscribe("a", handler, callbacks)
    return { handler, first }
  }

  test("every request has an id of its own", () => {
    remount()

    const types = socket().sent.map(({ type }) => type)
    assert.deepEqual(types, ["subscribe", "unsubscribe", "subscribe"])
    assert.equal(new Set(socket().ids).size, 3)
    assert.ok(socket().ids.every(Number.isInteger))
  })

  test("the answer to the first is not one to the second", () => {
    const onSubscribed = recorder()
    const { handler, first } = remount({ onSubscribed })

    subscribed("a", { id: first, cursor: "1-1" })
    notify("a", { text: "between", cursor: "1-2" })
    assert.deepEqual(onSubscribed.calls, [])
    socket().say({ type: "unsubscribed", channel: "a", reason: "requested", id: 2 })
    subscribed("a", durable)
    notify("a", { text: "after", cursor: "1-6" })

    assert.equal(onSubscribed.calls.length, 1)
    assert.deepEqual(handler.calls.map(([data]) => data), ["after"])
  })

  test("an error for the first is not one for the second", () => {
    const onError = recorder()
    const { handler, first } = remount({ onError })

    const error = { type: "error", channel: "a", message: "no", id: first }
    socket().say({ ...error, code: "unavailable", retry_delay: 4 })
    socket().say({ ...error, code: "forbidden" })
    subscribed("a", durable)
    notify("a", { text: "after" })
    advance(10)

    assert.deepEqual(onError.calls, [])
    assert.equal(handler.calls.length, 1)
    assert.equal(socket().sent.length, 3)
  })

  for (const message of [
    { type: "gap", reason: "slow", cursor: "1-90", reload_window: 0 },
    { type: "unsubscribed", reason: "revoked" },
    { type: "restored" },
    { type: "error", code: "unavailable", message: "no" },
  ]) {
    test(`a late ${message.type} of the first is not for the second`, () => {
      const told = recorder()
      const [onGap, onUnsubscribed, onRestored, onError] = [told, told, told, told]
      const { first } = remount({ onGap, onUnsubscribed, onRestored, onError })

      subscribed("a", { id: first })
      socket().say({ ...message, channel: "a" })
      subscribed("a", durable)
      advance(1)
      assert.deepEqual(told.calls, [])
      reconnect()

      const resume = { type: "subscribe", channel: "a", resume: true, cursor: "1-5" }
      assert.deepEqual(socket().sent, [resume])
    })
  }

  test("a heartbeat before the answer moves nothing", () => {
    const { first } = remount({ cursor: "1-3" })

    subscribed("a", { ...durable, id: first })
    socket().say({ type: "heartbeat", cursor: "1-90" })
    reconnect()

    const again = { type: "subscribe", channel: "a", cursor: "1-3" }
    assert.deepEqual(socket().sent, [again])
  })
})

describe("unsubscribing", () => {
  test("twice is once", () => {
    const subscription = live()

    subscription.unsubscribe()
    subscription.unsubscribe()

    assert.deepEqual(socket().sent, [
      { type: "subscribe", channel: "a" },
      { type: "unsubscribe", channel: "a" },
    ])
  })

  test("before the connection is open leaves nothing to send", () => {
    start()
    bridge.subscribe("a", () => {}).unsubscribe()

    socket().welcome()

    assert.deepEqual(socket().sent, [])
  })

  test("is not undone by a reconnect", () => {
    live().unsubscribe()

    reconnect()

    assert.deepEqual(socket().sent, [])
  })

  test("and subscribing again begins anew and hears nothing from before", () => {
    const handler = recorder()
    const onUnsubscribed = recorder()
    live().unsubscribe()

    bridge.subscribe("a", handler, { onUnsubscribed })
    notify("a", { text: "sent before" })
    socket().say({ type: "unsubscribed", channel: "a", reason: "requested" })
    subscribed("a")
    notify("a", { text: "new" })

    assert.deepEqual(socket().sent[2], { type: "subscribe", channel: "a" })
    assert.deepEqual(handler.calls.map(([data]) => data), ["new"])
    assert.deepEqual(onUnsubscribed.calls, [])
  })

  for (const reason of ["revoked", "expired"]) {
    test(`by the server (${reason}) is told and outlasts a reconnect`, () => {
      const onUnsubscribed = recorder()
      live({ onUnsubscribed })

      socket().say({ type: "unsubscribed", channel: "a", reason })
      reconnect()

      const message = { type: "unsubscribed", channel: "a", reason }
      assert.deepEqual(onUnsubscribed.calls, [[message]])
      assert.deepEqual(socket().sent, [])
    })
  }
})

describe("after a reconnect", () => {
  const resume = { type: "subscribe", channel: "a", resume: true }

  test("a channel that was in force is resumed", () => {
    live()

    reconnect()

    assert.deepEqual(socket().sent, [resume])
  })

  test("a channel that never was is asked for as at first", () => {
    start()
    bridge.subscribe("a", () => {})
    socket().welcome()

    reconnect()

    assert.deepEqual(socket().sent, [{ type: "subscribe", channel: "a" }])
  })

  test("a channel is resumed also over a connection that did not have it", () => {
    live()

    lose()
    reconnect()

    assert.deepEqual(socket().sent, [resume])
  })

  test("every channel goes on after its own last cursor", () => {
    live({ answer: { durable: true, cursor: "1-10" } })
    bridge.subscribe("b", () => {})
    subscribed("b", { durable: true, cursor: "1-11" })
    notify("a", { text: "x", cursor: "1-12" })

    reconnect()

    assert.deepEqual(socket().sent, [
      { ...resume, cursor: "1-12" },
      { ...resume, channel: "b", cursor: "1-11" },
    ])
  })

  test("a channel goes on where the answer says that it begins", () => {
    live({ cursor: "1-5", answer: { durable: true, resumed: true, cursor: "1-5" } })

    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-5" }])
  })

  test("a channel goes on after the cursor of a gap", () => {
    live({ cursor: "1-5" })
    const gap = { type: "gap", channel: "a", reason: "expired", reload_window: 0 }
    socket().say({ ...gap, cursor: "1-70" })

    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-70" }])
  })

  test("a notification is not counted as handled while its handler runs", () => {
    live({ handler: reconnect, answer: { durable: true, cursor: "1-5" } })

    notify("a", { text: "x", cursor: "1-6" })

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-5" }])
  })

  test("a notification whose handler threw is not counted as handled", () => {
    const handler = () => { throw new Error("of the page") }
    mock.method(globalThis, "queueMicrotask", () => {})
    live({ handler, answer: { durable: true, cursor: "1-5" } })

    notify("a", { text: "x", cursor: "1-6" })
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-5" }])
  })

  test("a position given by the page holds until a notification moves it", () => {
    live({ cursor: "1-5", answer: { durable: true, resumed: true, cursor: "1-5" } })

    notify("a", { text: "x", cursor: "1-7" })
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-7" }])
  })

  test("a position given by the page is sent again until it was in force", () => {
    start()
    bridge.subscribe("a", () => {}, { cursor: "1-5" })
    socket().welcome()

    reconnect()

    assert.deepEqual(socket().sent, [
      { type: "subscribe", channel: "a", cursor: "1-5" },
    ])
  })

  test("a position that the server did not resume from is not sent again", () => {
    live({ cursor: "1-5", answer: { durable: true, cursor: "2-90" } })

    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "2-90" }])
  })

  test("nothing is heard of the socket before", () => {
    const handler = recorder()
    live({ handler })
    const old = socket()

    reconnect()
    subscribed("a")
    old.say({ type: "notification", channel: "a", text: "late" })
    old.end(4503)

    assert.deepEqual(handler.calls, [])
    assert.equal(bridge.state, "open")
  })
})

describe("the cursor of a heartbeat", () => {
  const resume = { type: "subscribe", channel: "a", resume: true }
  const heartbeat = { type: "heartbeat", cursor: "1-90" }
  const durable = { durable: true, cursor: "1-5" }

  test("moves every durable channel on, and is sent back after a reconnect", () => {
    live({ answer: durable })
    bridge.subscribe("b", () => {})
    subscribed("b", durable)

    socket().say(heartbeat)
    reconnect()

    assert.deepEqual(socket().sent, [
      { ...resume, cursor: "1-90" },
      { ...resume, channel: "b", cursor: "1-90" },
    ])
  })

  test("moves a channel that has resumed after the page's own position", () => {
    live({ cursor: "1-2", answer: { ...durable, cursor: "1-2", resumed: true } })

    socket().say(heartbeat)
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-90" }])
  })

  test("is not the last word: the next notification is", () => {
    live({ answer: durable })

    socket().say(heartbeat)
    notify("a", { text: "x", cursor: "1-91" })
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-91" }])
  })

  test("is nothing to a plain channel", () => {
    live()
    bridge.subscribe("b", () => {})
    subscribed("b", durable)

    socket().say(heartbeat)
    reconnect()

    const [plain, kept] = socket().sent
    assert.deepEqual(plain, resume)
    assert.equal(kept.cursor, "1-90")
  })

  test("is nothing to a channel that is only asked for", () => {
    start()
    bridge.subscribe("a", () => {}, { cursor: "1-2" })
    socket().welcome()

    socket().say(heartbeat)
    reconnect()

    const subscribe = { type: "subscribe", channel: "a", cursor: "1-2" }
    assert.deepEqual(socket().sent, [subscribe])
  })

  test("is nothing to a channel that this connection has not answered yet", () => {
    live({ answer: durable })
    reconnect()

    socket().say(heartbeat)
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-5" }])
  })

  test("may be left out, and then nothing moves", () => {
    live({ answer: durable })

    socket().say({ type: "heartbeat" })
    reconnect()

    assert.deepEqual(socket().sent, [{ ...resume, cursor: "1-5" }])
  })
})

describe("the wait before a reconnect", () => {
  test("has a bound that doubles from half a second to 30", () => {
    start()
    chance = 1 // a little more than random gives, and round numbers

    for (let count = 0; count < 9; count += 1) lose()

    assert.deepEqual(delays(), [0.5, 1, 2, 4, 8, 16, 30, 30, 30])
  })

  test("is any part of the bound", () => {
    start()

    for (chance of [0, 0.25, 0.5, 0.75]) lose()

    assert.deepEqual(delays(), [0, 0.25, 1, 3])
  })

  test("is as long as it says", () => {
    start()
    socket().end()

    advance(0.2)
    assert.equal(Socket.all.length, 1)
    advance(0.05)

    assert.equal(Socket.all.length, 2)
  })

  test("is short again after a connection that lived", () => {
    start()
    for (let count = 0; count < 4; count += 1) lose()
    socket().welcome()

    advance(5)
    lose()

    assert.deepEqual(delays(), [0.25, 0.5, 1, 2, 0.25])
  })

  test("grows also when the server accepts and closes at once", () => {
    start()

    for (let count = 0; count < 3; count += 1) {
      socket().welcome()
      lose()
    }

    assert.deepEqual(delays(), [0.25, 0.5, 1])
  })

  test("is what the server asked for, and once, with the jitter on top", () => {
    start()
    socket().welcome()

    socket().say({ type: "bye", reason: "restart", reconnect_delay: 3 })
    lose()
    lose()

    assert.deepEqual(delays(), [3.25, 0.5])
  })

  test("ends when the page closes the bridge", () => {
    start()
    socket().end()

    bridge.close()
    advance(60)

    assert.equal(Socket.all.length, 1)
  })
})

describe("close codes", () => {
  const again = [1001, 1011, 1012, 1013, 4001, 4002, 4008, 4009]
  const final = [1000, 1002, 1003, 1007, 1009, 4500, 4501, 4503, 4504, 4505]

  test("in the tables are those that are tried here", () => {
    assert.deepEqual(Object.keys(RECONNECT).map(Number), again)
    assert.deepEqual(Object.keys(NO_RECONNECT).map(Number), final)
  })

  for (const code of [...again, 1005, 1006, 4999]) {
    test(`${code}: the client connects again`, () => {
      start()
      socket().welcome()

      socket().end(code)
      advance(0.25)

      assert.equal(Socket.all.length, 2)
    })
  }

  for (const code of final) {
    test(`${code}: the client does not connect again, and says why`, () => {
      start()
      socket().welcome()

      socket().end(code, "its words")
      advance(60)

      assert.equal(Socket.all.length, 1)
      assert.deepEqual(states.at(-1), ["closed", { code, reason: "its words" }])
    })
  }

  test("without words are named by the table", () => {
    start()

    socket().end(4503)

    assert.deepEqual(states.at(-1), ["closed", { code: 4503, reason: "forbidden" }])
  })

  test("of the page is 1000, and closed is told once", () => {
    start()
    socket().welcome()

    bridge.close()
    bridge.close()

    const closed = ["closed", { code: 1000, reason: "closed by the page" }]
    assert.deepEqual(states, [["connecting", {}], ["open", {}], closed])
    assert.equal(socket().closedWith, 1000)
  })
})

describe("silence", () => {
  const ping = { type: "ping" }

  test("of two heartbeat intervals makes the client ask", () => {
    start()
    socket().welcome(25)

    advance(49.9)
    assert.deepEqual(socket().sent, [])
    advance(0.1)

    assert.deepEqual(socket().sent, [ping])
  })

  test("of 5 more seconds is a loss, whose close event is not waited for", () => {
    start()
    socket().welcome(25)
    const dead = socket()

    advance(54.9)
    assert.equal(bridge.state, "open")
    advance(0.1)

    assert.deepEqual(delays(), [0.25])
    assert.equal(dead.closedWith, 1000)
  })

  test("is measured with the interval of the server", () => {
    start()
    socket().welcome(5)

    advance(10)

    assert.deepEqual(socket().sent, [ping])
  })

  test("means nothing where the server sends no heartbeats", () => {
    start()
    socket().welcome(0)

    advance(600)

    assert.equal(bridge.state, "open")
  })

  for (const message of [{ type: "heartbeat" }, { type: "pong" }, "not JSON"]) {
    test(`ends with ${JSON.stringify(message)}`, () => {
      mock.method(console, "warn", () => {})
      start()
      socket().welcome(25)

      advance(51)
      socket().say(message)
      advance(49)
      assert.deepEqual(socket().sent, [ping])
      advance(5)

      assert.deepEqual(socket().sent, [ping, ping])
      assert.equal(bridge.state, "open")
    })
  }

  test("of a sleeping machine is not a loss before the server was asked", () => {
    start()
    socket().welcome(25)

    mock.timers.setTime(Date.now() + 3_600_000)
    advance(0.05)
    assert.deepEqual(socket().sent, [ping])
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

  const ways = {
    online: () => globalThis.dispatchEvent(new Event("online")),
    visible: () => document.dispatchEvent(new Event("visibilitychange")),
  }
  for (const [name, wake] of Object.entries(ways)) {
    test(`(${name}) asks at once and waits 5 seconds for the answer`, () => {
      start()
      socket().welcome()
      advance(1)

      wake()
      assert.deepEqual(socket().sent, [{ type: "ping" }])
      advance(4.9)
      assert.equal(bridge.state, "open")
      advance(0.1)

      assert.equal(bridge.state, "waiting")
    })

    test(`(${name}) makes a long wait short`, () => {
      start()
      for (let count = 0; count < 6; count += 1) lose()
      socket().end()

      wake()

      assert.deepEqual(delays().slice(-2), [15, 0.25])
    })

    test(`(${name}) still waits as long as the server asked`, () => {
      start()
      socket().welcome()
      socket().say({ type: "bye", reason: "overloaded", reconnect_delay: 20 })
      socket().end(1013)

      advance(10)
      wake()
      advance(10.2)
      assert.equal(Socket.all.length, 1)
      advance(0.05)

      assert.equal(Socket.all.length, 2)
    })

    test(`(${name}) leaves a closed bridge closed`, () => {
      start()
      bridge.close()

      wake()
      advance(60)

      assert.equal(Socket.all.length, 1)
    })
  }

  test("twice asks once and gives no more time for the answer", () => {
    start()
    socket().welcome()

    ways.visible()
    advance(3)
    ways.online()
    advance(2)

    assert.equal(bridge.state, "waiting")
  })

  test("does not when it becomes hidden", () => {
    start()
    socket().welcome()
    document.hidden = true

    ways.visible()

    assert.deepEqual(socket().sent, [])
  })
})

describe("a gap", () => {
  const gap = { type: "gap", channel: "a", since: 100, reload_window: 8 }

  test("is told after a random part of its window", () => {
    const onGap = recorder()
    live({ onGap })
    chance = 0.75

    socket().say(gap)
    advance(5.9)
    assert.deepEqual(onGap.calls, [])
    advance(0.1)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  test("and those that follow until then are told once, as the first", () => {
    const onGap = recorder()
    live({ onGap })

    socket().say(gap)
    advance(1)
    socket().say({ ...gap, since: 101 })
    advance(60)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  test("after that is told again", () => {
    const onGap = recorder()
    live({ onGap })

    socket().say(gap)
    advance(4)
    socket().say({ ...gap, since: 200 })
    advance(4)

    assert.deepEqual(onGap.calls, [[gap], [{ ...gap, since: 200 }]])
  })

  test("is told also when the connection is lost meanwhile", () => {
    const onGap = recorder()
    live({ onGap })

    socket().say(gap)
    lose()
    advance(4)

    assert.deepEqual(onGap.calls, [[gap]])
  })

  const leavings = {
    "left the channel": (subscription) => subscription.unsubscribe(),
    "closed the bridge": () => bridge.close(),
  }
  for (const [name, leave] of Object.entries(leavings)) {
    test(`is not told to a page that ${name}`, () => {
      const onGap = recorder()
      const subscription = live({ onGap })

      socket().say(gap)
      leave(subscription)
      advance(8)

      assert.deepEqual(onGap.calls, [])
    })
  }
})

describe("an error", () => {
  const subscribe = { type: "subscribe", channel: "a" }
  const error = { type: "error", channel: "a", message: "no", code: "unavailable" }

  /** Subscribe to `a` and have it refused. */
  function refuse(fields, onError = () => {}) {
    start()
    const subscription = bridge.subscribe("a", () => {}, { onError })
    socket().welcome()
    socket().say({ ...error, id: socket().asked("a"), ...fields })
    return subscription
  }

  for (const code of ["unavailable", "rate_limited", "internal"]) {
    test(`${code} is told, and the channel asked for again after the delay`, () => {
      const onError = recorder()
      chance = 0
      refuse({ code, retry_delay: 4 }, onError)

      advance(3.9)
      assert.deepEqual(socket().sent, [subscribe])
      advance(0.1)

      assert.deepEqual(onError.calls.map(([{ code }]) => code), [code])
      assert.deepEqual(socket().sent, [subscribe, subscribe])
    })
  }

  for (const [fields, part, seconds] of [
    [{ retry_delay: 4 }, 1, 6],
    [{}, 0, 30],
  ]) {
    test(`with ${JSON.stringify(fields)} waits ${seconds} s at chance ${part}`, () => {
      chance = part
      refuse(fields)

      advance(seconds - 0.1)
      assert.deepEqual(socket().sent, [subscribe])
      socket().say({ type: "heartbeat" })
      advance(0.1)

      assert.deepEqual(socket().sent, [subscribe, subscribe])
    })
  }

  test("that took the channel away: no heartbeat moves it until it is back", () => {
    live({ answer: { durable: true, cursor: "1-5" } })

    socket().say({ ...error, retry_delay: 4 })
    socket().say({ type: "heartbeat", cursor: "1-90" })
    reconnect()

    const resume = { type: "subscribe", channel: "a", resume: true, cursor: "1-5" }
    assert.deepEqual(socket().sent, [resume])
  })

  test("is not retried by the timer of a former connection", () => {
    refuse({ retry_delay: 4 })

    reconnect()
    advance(10)

    assert.deepEqual(socket().sent, [subscribe])
  })

  test("is not retried for who has left, and there is nothing to unsubscribe", () => {
    const subscription = refuse({ retry_delay: 4 })

    subscription.unsubscribe()
    advance(10)

    assert.deepEqual(socket().sent, [subscribe])
  })

  for (const code of ["forbidden", "bad_channel", "bad_cursor", "not_authenticated"]) {
    test(`${code} is told and final, over a reconnect too`, () => {
      const onError = recorder()
      refuse({ code }, onError)

      advance(40)
      assert.deepEqual(socket().sent, [subscribe])
      reconnect()

      assert.deepEqual(onError.calls.map(([{ code }]) => code), [code])
      assert.deepEqual(socket().sent, [])
    })
  }

  test("that is final lets the page subscribe anew", () => {
    refuse({ code: "forbidden" })

    bridge.subscribe("a", () => {})

    assert.deepEqual(socket().sent, [subscribe, subscribe])
  })
})

describe("what is no message", () => {
  for (const text of ["not JSON", "{", ""]) {
    test(`(${JSON.stringify(text)}) is ignored with a warning`, () => {
      const warn = mock.method(console, "warn", () => {})
      live()

      socket().say(text)

      const warnings = warn.mock.calls.map((call) => call.arguments)
      assert.deepEqual(warnings, [["pgbridge: this is not JSON:", text]])
      assert.equal(bridge.state, "open")
    })
  }

  const untyped = ["null", "7", "[]", "{}", '{"channel":"a","text":"x"}']
  for (const text of untyped) {
    test(`(${text}) is ignored`, () => {
      const handler = recorder()
      live({ handler })

      socket().say(text)

      assert.deepEqual(handler.calls, [])
      assert.equal(bridge.state, "open")
    })
  }
})
