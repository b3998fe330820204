/**
 * Committed PostgreSQL notifications in a page, over one WebSocket.
 *
 * Invariants: one socket at a time, and what an older one still says is not heard. One
 * subscription on the wire per channel, however many handlers share it; until the
 * answer to its own request comes, nothing that is said of the channel is for it. A
 * cursor is never ahead of what its handlers were given. What a function of the page
 * throws does not reach this module. Not here: tokens (a WebSocket carries the page's
 * cookies), and the state that a page loads after a gap. pgbridge.d.ts says what a page
 * may expect.
 */

/** @type {Readonly<Record<number, string>>} close codes to connect again after */
export const RECONNECT = Object.freeze({
  1001: "going_away", 1011: "internal", 1012: "restart", 1013: "overloaded",
  4001: "token_expired", 4002: "authenticate_timeout", 4008: "slow",
  4009: "heartbeat_timeout",
})
/** @type {Readonly<Record<number, string>>} close codes that end it; others do not */
export const NO_RECONNECT = Object.freeze({
  1000: "normal", 1002: "protocol_error", 1003: "unsupported_data",
  1007: "invalid_data", 1009: "too_big", 4500: "too_many_errors",
  4501: "not_authenticated", 4503: "forbidden", 4504: "revoked",
  4505: "protocol_unsupported",
})
const TEMPORARY = ["unavailable", "rate_limited", "internal"] // errors worth a retry
// Seconds:
const FIRST_BACKOFF = 0.5
const MAX_BACKOFF = 30
const WELCOME_TIMEOUT = 15 // a connect into nowhere takes minutes to fail
const PONG_TIMEOUT = 5
const CHECK_INTERVAL = 5 // a longer timer would stand still through a sleep

/**
 * One channel on the wire, and the local subscriptions that share it.
 * @import * as Types from "./pgbridge.d.ts"
 * @typedef {object} Channel
 * @property {string} name
 * @property {Set<Local>} locals
 * @property {string} [cursor] the last one handled
 * @property {true} [known] it was subscribed at some time: from then a loss matters
 * @property {number} [request] the id of the last request for it
 * @property {Types.SubscribedMessage} [subscribed] the answer, while it is in force
 * @property {Timer} [gapTimer] set while a gap is to be told
 * @property {Timer} [retryTimer] set while it is refused for now
 * @typedef {{ handler: Function, callbacks: Types.Callbacks }} Local
 * @typedef {ReturnType<typeof setTimeout>} Timer
 */

/** @type {typeof Types.connect} */
export function connect(url, options = {}) {
  const { WebSocket: Socket = globalThis.WebSocket, random = Math.random } = options
  const address = new URL(url, globalThis.location?.href).href.replace(/^http/, "ws")
  const channels = /** @type {Map<string, Channel>} */ (new Map())
  const listening = new AbortController() // to events of the platform
  let state = /** @type {Types.State} */ ("connecting")
  let socket = /** @type {WebSocket?} */ (null) // null while waiting, and when closed
  let bye = /** @type {Types.ByeMessage?} */ (null) // of the last socket
  let timer = /** @type {Timer | undefined} */ (undefined) // next try, or next check
  let requests = 0 // the id of the last one
  let failures = 0 // tries since a connection that was stable
  let patience = WELCOME_TIMEOUT // with silence
  let deadline = 0 // of the silence; Date.now() goes on while the machine sleeps
  let pinged = false // asked for a sign of life, and none has come

  function enter(/** @type {Types.State} */ next, detail = {}) {
    state = next
    call(() => options.onState?.(next, detail))
  }

  function open() {
    socket = new Socket(address, "pgbridge.v1")
    socket.onmessage = (event) => receive(event.data)
    socket.onclose = (event) => lost(event.code, event.reason)
    socket.onerror = () => socket?.readyState === 0 && lost() // all that Node 20 says
    bye = null
    heard(WELCOME_TIMEOUT)
    check()
    enter("connecting")
  }

  /** Hear no more of the socket, whose own close event may take minutes. */
  function lost(code = 1006, reason = "") {
    clearTimeout(timer)
    if (socket) socket.onmessage = socket.onclose = socket.onerror = null
    socket?.close(1000)
    socket = null
    for (const channel of channels.values()) channel.subscribed = undefined
    if (!(code in NO_RECONNECT)) return wait()
    listening.abort()
    channels.forEach(forget)
    enter("closed", { code, reason: reason || NO_RECONNECT[code] })
  }

  function wait() {
    const backoff = random() * Math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** failures)
    const delay = (bye?.reconnect_delay ?? 0) + backoff
    failures += 1
    clearTimeout(timer)
    timer = setTimeout(open, 1000 * delay)
    enter("waiting", { delay })
  }

  function heard(silence = patience) {
    patience = silence
    deadline = Date.now() + 1000 * patience
    pinged = false
  }

  /** Look for silence. Before it counts as a loss the server is asked once: after a
   *  sleep, what has arrived may still stand in line behind this timer. */
  function check() {
    if (state === "open") failures = 0 // who accepts and closes does not get here
    if (Date.now() >= deadline) {
      if (pinged || state !== "open") return lost()
      pinged = true
      deadline = Date.now() + 1000 * PONG_TIMEOUT
      send({ type: "ping" })
    }
    clearTimeout(timer)
    timer = setTimeout(check, Math.min(deadline - Date.now(), 1000 * CHECK_INTERVAL))
  }

  /** The network or the reader is back: do not wait for a timer. */
  function wake(/** @type {Event} */ event) {
    if (event.type === "visibilitychange" && document.hidden) return
    if (state === "open" && !pinged) deadline = Date.now()
    if (socket) return check()
    if (bye) return // the server has said when
    failures = 0
    wait()
  }

  function send(/** @type {object} */ message) {
    if (state === "open") socket?.send(JSON.stringify(message))
  }

  function ask(/** @type {Channel} */ channel) {
    const { name, known, cursor } = channel
    clearTimeout(channel.retryTimer)
    channel.retryTimer = undefined
    channel.request = ++requests
    send({ type: "subscribe", id: requests, channel: name, resume: known, cursor })
  }

  function forget(/** @type {Channel} */ channel) {
    channels.delete(channel.name)
    clearTimeout(channel.gapTimer)
    clearTimeout(channel.retryTimer)
  }

  function receive(/** @type {string} */ text) {
    heard()
    let message
    try {
      message = Object(JSON.parse(text)) // even null, which has no type then
    } catch {
      return console.warn("pgbridge: this is not JSON:", text)
    }
    call(() => options.onMessage?.(message))
    const channel = channels.get(message.channel)
    if (channel && concerns(channel, message)) take(channel, message)
    if (message.type === "bye") bye = message
    if (message.type === "heartbeat" && message.cursor) {
      for (const each of channels.values()) {
        if (each.subscribed?.durable) each.cursor = message.cursor
      }
    }
    if (message.type !== "welcome" || !socket) return
    heard(2 * message.heartbeat_interval || Infinity) // 0: there are none
    state = "open" // nothing is sent in any other
    channels.forEach(ask)
    enter("open")
  }

  function take(/** @type {Channel} */ channel, /** @type {Types.Message} */ message) {
    switch (message.type) {
      case "notification": {
        const data = "data" in message ? message.data : message.text
        const handled = tell(channel, ({ handler }) => handler(data, message))
        if (handled) channel.cursor = message.cursor ?? channel.cursor
        return
      }
      case "subscribed":
        channel.known = true
        channel.subscribed = message
        channel.cursor = message.cursor ?? channel.cursor
        return tell(channel, ({ callbacks }) => callbacks.onSubscribed?.(message))
      case "interrupted":
        return tell(channel, ({ callbacks }) => callbacks.onInterrupted?.(message))
      case "restored":
        return tell(channel, ({ callbacks }) => callbacks.onRestored?.(message))
      case "gap":
        channel.cursor = message.cursor ?? channel.cursor
        channel.gapTimer ??= setTimeout(() => {
          channel.gapTimer = undefined
          tell(channel, ({ callbacks }) => callbacks.onGap?.(message))
        }, 1000 * random() * message.reload_window)
        return
      case "unsubscribed":
        forget(channel)
        return tell(channel, ({ callbacks }) => callbacks.onUnsubscribed?.(message))
      case "error": {
        const { code, retry_delay = MAX_BACKOFF } = message
        const delay = retry_delay * (1 + random() / 2) // all pages were told the same
        channel.subscribed = undefined
        if (!TEMPORARY.includes(code)) forget(channel)
        else channel.retryTimer ??= setTimeout(ask, 1000 * delay, channel)
        return tell(channel, ({ callbacks }) => callbacks.onError?.(message))
      }
    }
  }

  /** @type {Types.Bridge["subscribe"]} */
  function subscribe(name, handler, callbacks = {}) {
    const { cursor } = callbacks
    const local = { handler, callbacks }
    const channel = channels.get(name) ?? { name, cursor, locals: new Set() }
    const { subscribed } = channel
    channel.locals.add(local)
    if (subscribed) queueMicrotask(() => callbacks.onSubscribed?.(subscribed))
    if (!channels.has(name)) ask(channel)
    channels.set(name, channel)
    function unsubscribe() {
      channel.locals.delete(local)
      if (channel.locals.size || channels.get(name) !== channel) return
      forget(channel)
      if (channel.retryTimer) return
      send({ type: "unsubscribe", id: ++requests, channel: name })
    }
    return { unsubscribe }
  }

  const close = () => { if (state !== "closed") lost(1000, "closed by the page") }
  globalThis.addEventListener?.("online", wake, listening)
  globalThis.document?.addEventListener("visibilitychange", wake, listening)
  open()
  return { subscribe, close, get state() { return state } }
}

/** Tell an answer to this channel's request, or a word on what is in force, from what
 *  is said of a subscription to the same channel that was given up before. (That the
 *  source is away holds for both.)
 *  @param {Channel} channel @param {Types.Message & { id?: unknown }} message */
function concerns({ request, subscribed }, { id, type }) {
  if (id !== undefined) return id === request
  return subscribed !== undefined || type === "interrupted"
}

/** Visit every local subscription; true when none threw.
 *  @param {Channel} channel @param {(local: Local) => void} visit */
function tell({ locals }, visit) {
  const all = [...locals].map((local) => !locals.has(local) || call(() => visit(local)))
  return all.every(Boolean)
}

/** Call a function of the page; what it throws is thrown again after everything. */
function call(/** @type {() => unknown} */ run) {
  try {
    run()
    return true
  } catch (error) {
    queueMicrotask(() => { throw error })
  }
}
