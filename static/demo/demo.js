/**
 * The demo page: a front end that saves, and an admin that is told.
 *
 * What a page with pgbridge has to do is in `watch` and `load`: show what arrives, load
 * the state when the subscription is in force and again after a gap, and skip what is
 * there already. With a durable channel it is the same code: there is no gap, since what
 * was missed arrives. The rest is looks.
 *
 * @import { Bridge, Message, State, StateDetail } from "../client/pgbridge.d.ts"
 * @typedef {{ pk?: number, name?: unknown, saved_at?: string }} Row
 * @typedef {{ element: HTMLElement, say(text: string): void }} Notice
 */

import { amount, clock, create, sleep } from "./parts.js"
import { Wiretap } from "./wiretap.js"

const MAX_ENTRIES = 200 // of the feed, and of the wire
const SAMPLES = [
  "Ada Lovelace signed up", "Order 1001 was paid", "Room 12 is free again",
  "Grace Hopper has moved", "Order 1002 was sent", "A review needs an answer",
]

const page = /** @type {Record<string, any>} elements by id */ ({})
for (const element of document.querySelectorAll("[id]")) page[element.id] = element
const bridgeUrl = document.body.dataset.bridgeUrl ?? ""
const parameters = new URLSearchParams(location.search)

let bridge = /** @type {Bridge | undefined} */ (undefined)
let connection = /** @type {State | "unreachable"} */ ("connecting")
let nextTryAt = 0 // Date.now()
let lostAt = 0 // Date.now(), or 0 while connected
let watched = newWatch(7)

/** What the admin watches, and what it knows of it. */
function newWatch(/** @type {number} */ id) {
  return {
    id,
    channel: `${page.durable.checked ? "kept" : "watchers"}_${id}`,
    isSubscribed: false, // the server has said `subscribed` on this connection
    refused: false,
    away: false, // PostgreSQL is, says the server
    loaded: false,
    seen: /** @type {Set<unknown>} */ (new Set()), // keys of the rows in the feed
    gapNotice: /** @type {Notice | undefined} */ (undefined), // until it is loaded
    backNotice: /** @type {Notice | undefined} */ (undefined), // of the last return
    backAt: 0, // Date.now() when it was resumed: what was saved before is replay
    replayed: 0, // rows since then
    leave() {},
  }
}

// --- The admin: what it takes to watch a channel ---

function watch(/** @type {number} */ id) {
  watched.leave()
  const own = (watched = newWatch(id))
  page.feed.replaceChildren()
  showChannel()
  page.count.textContent = "0"
  page.latency.textContent = "–"
  showStatus()
  if (!bridge) return void load(own)

  const subscription = bridge.subscribe(own.channel, (row) => arrived(own, row), {
    onSubscribed({ resumed }) {
      become({ isSubscribed: true, refused: false, away: false })
      if (!own.loaded) load(own) // later, a gap says when it is to be loaded again
      if (resumed) expectReplay(own, own.backNotice)
    },
    onGap: () => load(own),
    onInterrupted() {
      become({ away: true })
      addNotice("bad", "PostgreSQL is away: nothing can arrive")
    },
    onRestored() {
      become({ away: false })
      expectReplay(own, addNotice("good", "PostgreSQL is back"))
    },
    onError({ message }) {
      become({ refused: true })
      addNotice("bad", `The channel is refused: ${message}`)
    },
    onUnsubscribed({ reason }) {
      become({ isSubscribed: false, refused: true })
      addNotice("bad", `The channel was taken away: ${reason}`)
    },
  })
  own.leave = subscription.unsubscribe
}

function arrived(/** @type {typeof watched} */ own, /** @type {Row | string} */ row) {
  pulse("flow-notify", 0)
  pulse("flow-socket", 200)
  const { pk, saved_at = "" } = Object(row)
  if (own.seen.has(pk)) return // the state that was loaded had it
  if (pk !== undefined) own.seen.add(pk)
  const savedAt = Date.parse(saved_at) || Date.now() - 1000 // without a row: a guess
  if (savedAt < own.backAt) {
    own.replayed += 1
    page.feed.prepend(newRow(row, "replayed"))
    own.backNotice?.say(`${amount(own.replayed, "missed event")} replayed, nothing lost`)
    return trim(page.feed)
  }
  const latency = Date.now() - Date.parse(saved_at)
  page.feed.prepend(newRow(row, "live", latency))
  page.count.textContent = Number(page.count.textContent) + 1
  if (latency >= 0) page.latency.textContent = `${latency} ms`
  trim(page.feed)
}

/** Say that nothing is missing, and then how much of it comes now. */
function expectReplay(
  /** @type {typeof watched} */ own, /** @type {Notice | undefined} */ notice,
) {
  Object.assign(own, { backNotice: notice, backAt: Date.now(), replayed: 0 })
  notice?.say("nothing was missed")
}

/** Load the rows and add those that are not there; try until it succeeds. */
async function load(/** @type {typeof watched} */ own) {
  let notice = own.gapNotice
  own.gapNotice = undefined
  const what = own.loaded ? "state loaded again" : "done"
  own.loaded = true
  page.log.ariaBusy = "true"
  let { body: rows, error } = await ask(`/rows?id=${own.id}`)
  for (let delay = 1; error; delay = Math.min(2 * delay, 8)) {
    notice ??= addNotice("warn", "Loading the state")
    notice.say(`${error}, trying again`)
    await sleep(delay)
    if (own !== watched) return
    ;({ body: rows, error } = await ask(`/rows?id=${own.id}`))
  }
  if (own !== watched) return
  const missed = rows.filter((/** @type {Row} */ row) => !own.seen.has(row.pk))
  for (const { pk } of missed) own.seen.add(pk)
  const added = missed.map((/** @type {Row} */ row) => newRow(row, "loaded"))
  if (notice) notice.element.after(...added)
  else page.feed.append(...added)
  const rowsAdded = `${amount(added.length, "row")} added`
  notice?.say(`${what}, ${added.length ? rowsAdded : "nothing was missing"}`)
  page.log.ariaBusy = "false"
  trim(page.feed)
}

function onMessage(/** @type {Message} */ message) {
  if (message.type === "bye") lost(`The bridge said goodbye (${message.reason})`)
  if (message.type !== "gap" || message.channel !== watched.channel) return
  become({ away: false })
  if (watched.gapNotice) return
  const since = message.since ? ` since ${clock(1000 * message.since)}` : ""
  watched.gapNotice = addNotice("warn", `Something may be missing${since}`)
  watched.gapNotice.say("loading the state again")
}

function onState(/** @type {State} */ state, /** @type {StateDetail} */ detail) {
  connection = state
  if (state !== "open") become({ isSubscribed: false, away: false })
  if (state === "waiting") {
    nextTryAt = Date.now() + 1000 * (detail.delay ?? 0)
    lost(Wiretap.offline ? "You are offline" : "The connection to the bridge is lost")
  }
  if (state === "closed") {
    addNotice("bad", `The bridge closed for good: ${detail.reason} (${detail.code})`)
  }
  if (state === "open" && lostAt) {
    const seconds = ((Date.now() - lostAt) / 1000).toFixed(1)
    watched.backNotice = addNotice("good", `Back after ${seconds} s`)
    lostAt = 0
  }
  showStatus()
}

/** Say once that the connection is gone, however many tries fail. */
function lost(/** @type {string} */ text) {
  const { offline } = Wiretap
  const next = offline ? "save something, then go online" : "trying until it is back"
  if (!lostAt) addNotice("bad", text).say(next)
  lostAt ||= Date.now()
}

function switchNetwork() {
  Wiretap.toggle()
  page.offline.textContent = Wiretap.offline ? "Go online" : "Go offline"
  showStatus()
}

/** Import the client from the bridge, and again until the bridge is there. */
async function connectToBridge() {
  const client = `${bridgeUrl}/static/client/pgbridge.js`
  for (let attempt = 0; !bridge; attempt += 1) {
    try {
      // A browser may remember that an address could not be imported.
      const { connect } = await import(attempt ? `${client}?${attempt}` : client)
      bridge = connect(`${bridgeUrl}/ws`, { WebSocket: Wiretap, onState, onMessage })
    } catch {
      if (!attempt) {
        connection = "unreachable"
        watch(watched.id)
        const notice = addNotice("bad", `Cannot reach the bridge at ${bridgeUrl}`)
        notice.say("trying until it answers")
      }
      await sleep(2)
    }
  }
  watch(watched.id)
}

// --- The front end: it saves, and knows nothing of all that ---

async function save(/** @type {SubmitEvent} */ event) {
  event.preventDefault()
  const row = { id: page.watcher.valueAsNumber, name: page.name.value }
  const start = performance.now()
  const { body, error } = await ask("/save", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(row),
  })
  page.result.dataset.kind = error ? "bad" : "good"
  if (error) {
    page.result.textContent = `Not saved: ${error}`
    return
  }
  const duration = Math.round(performance.now() - start)
  page.result.textContent = `Saved as row ${body.pk} in ${duration} ms`
  pulse("flow-insert", 0)
  const sample = SAMPLES.indexOf(row.name)
  if (sample >= 0) page.name.value = SAMPLES[(sample + 1) % SAMPLES.length]
  showForm()
}

/** Ask the site; what went wrong comes back as `error`, in words.
 *  @param {string} path @param {RequestInit} [options] */
async function ask(path, options) {
  try {
    const response = await fetch(path, options)
    const body = await response.json()
    return response.ok ? { body } : { error: body.error ?? response.statusText }
  } catch {
    return { error: "the site does not answer" }
  }
}

/** Put the form's values where they are repeated. */
function showForm() {
  const { value: id } = page.watcher
  page["code-id"].textContent = id
  page["code-name"].textContent = JSON.stringify(page.name.value)
  const insert = `INSERT INTO my_table (id, name) VALUES (${id}, 'from psql')`
  page["try-psql"].textContent = `psql "$DATABASE_URL" -c "${insert}"`
  const channel = page.durable.checked ? `--durable kept_${id}` : `watchers_${id}`
  page["try-publish"].textContent =
    `pgbridge publish ${channel} '{"id": ${id}, "name": "from the shell"}'`
  page.rendered.href = `rendered?id=${id}&wait=10`
}

// --- Looks ---

/** @param {Row | string} row @param {string} origin @param {number} [latency] ms */
function newRow(row, origin, latency = NaN) {
  const { pk, name, saved_at } = Object(row)
  const item = create("li", `row ${origin}`)
  const other = typeof row === "string" ? row : JSON.stringify(row)
  item.append(
    create("span", "origin", origin),
    create("span", "name", typeof name === "string" ? name : other),
    create("span", "latency", latency >= 0 ? `${latency} ms` : ""),
    create("time", "time", clock(saved_at ?? Date.now())),
    create("span", "key", pk === undefined ? "no row" : `#${pk}`),
  )
  page.empty.hidden = true
  return item
}

/** Put a line into the feed; it can go on, as "title: what is done".
 *  @param {"good" | "warn" | "bad"} kind @param {string} title @returns {Notice} */
function addNotice(kind, title) {
  const element = create("li", `notice ${kind}`)
  const words = create("span", "name", title)
  element.append(words, create("time", "time", clock(Date.now())))
  page.feed.prepend(element)
  trim(page.feed)
  return { element, say: (text) => { words.textContent = `${title}: ${text}` } }
}

function trim(/** @type {HTMLElement} */ list) {
  while (list.childElementCount > MAX_ENTRIES) list.lastElementChild?.remove()
  page.empty.hidden = page.feed.childElementCount > 0
}

function become(/** @type {Partial<typeof watched>} */ change) {
  Object.assign(watched, change)
  showStatus()
}

function showStatus() {
  const [kind, text] = summary()
  page.badge.dataset.state = kind
  if (page.state.textContent !== text) page.state.textContent = text
  const seconds = Math.max(Math.ceil((nextTryAt - Date.now()) / 1000), 0)
  const isWaiting = connection === "waiting" && !Wiretap.offline
  page.countdown.textContent = isWaiting ? `in ${seconds} s` : ""
  page["node-bridge"].dataset.down =
    !Wiretap.offline && !["open", "connecting"].includes(connection)
  page["node-postgresql"].dataset.down = watched.away
  page["flow-socket"].dataset.down = Wiretap.offline
  page.offline.disabled = !bridge || connection === "closed"
  page.empty.textContent = watched.loaded
    ? "Nothing was saved for this watcher yet." : "The rows come with the connection."
}

/** Say what the switch means, here and wherever the channel is named. */
function showChannel() {
  const { checked } = page.durable
  page.channel.textContent = watched.channel
  page.promise.textContent = checked
    ? "Kept in the database: what you miss is replayed."
    : "Nothing is kept: what you miss is loaded again."
  page["flow-notify"].querySelector("small").textContent = checked ? "journal" : "NOTIFY"
}

function summary() {
  if (Wiretap.offline) return ["offline", "Offline"]
  if (connection === "connecting") return ["connecting", "Connecting"]
  if (connection === "waiting") return ["waiting", "Trying again"]
  if (connection === "unreachable") return ["closed", "Bridge not reachable"]
  if (connection === "closed") return ["closed", "Closed"]
  if (watched.refused) return ["closed", "Refused"]
  if (watched.away) return ["interrupted", "Interrupted"]
  return watched.isSubscribed ? ["live", "Live"] : ["connecting", "Subscribing"]
}

/** @param {"sent" | "received"} direction @param {string} text */
function showOnWire(direction, text) {
  const line = create("li", direction)
  const arrow = create("span", "arrow", direction === "sent" ? "↑" : "↓")
  arrow.ariaLabel = direction
  const time = create("time", "time", clock(Date.now()))
  line.append(time, arrow, create("code", "json", text))
  page.wire.prepend(line)
  trim(page.wire)
}

/** Let a dot run along one link of the picture. */
function pulse(/** @type {string} */ link, /** @type {number} */ delay) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return
  const way = [{ left: "0", opacity: 0 }, { opacity: 1 }, { left: "100%", opacity: 0 }]
  page[link].querySelector("i").animate(way, { duration: 500, delay, easing: "ease" })
}

async function copy(/** @type {Event} */ event) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget)
  await navigator.clipboard.writeText(page[button.dataset.copy ?? ""].textContent)
  button.textContent = "Copied"
  await sleep(1.5)
  button.textContent = "Copy"
}

function openWindow() {
  const address = `?id=${watched.id}&view=admin&durable=${Number(page.durable.checked)}`
  window.open(address, "_blank", "popup,width=560,height=720")
}

/** Watch what the controls say; the address says it, too, for a reload. */
function change() {
  const id = page.watcher.checkValidity() ? page.watcher.valueAsNumber : watched.id
  parameters.set("id", String(id))
  parameters.set("durable", page.durable.checked ? "1" : "0")
  history.replaceState(null, "", `?${parameters}`)
  showForm()
  watch(id)
}

// --- Start ---

Wiretap.show = showOnWire
document.body.dataset.view = parameters.get("view") ?? ""
page.watcher.value = parameters.get("id") ?? "7"
if (!page.watcher.checkValidity()) page.watcher.value = "7"
page.durable.checked = parameters.get("durable") === "1"
page.name.value = SAMPLES[0]
page.form.addEventListener("submit", save)
page.form.addEventListener("input", showForm)
page.watcher.addEventListener("change", () => {
  if (page.watcher.checkValidity()) change()
})
page.durable.addEventListener("change", change)
page.offline.addEventListener("click", switchNetwork)
page.window.addEventListener("click", openWindow)
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", copy)
}
setInterval(showStatus, 250) // the countdown
watched = newWatch(page.watcher.valueAsNumber)
showForm()
showChannel()
connectToBridge()
