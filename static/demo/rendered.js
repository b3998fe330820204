/**
 * A page that the server rendered goes on live from where its rows end.
 *
 * The cursor stands for the rows that are in the page. Asking for it and reading the rows
 * was one transaction, so nothing is between them, and nothing is loaded here.
 *
 * @import { State } from "../client/pgbridge.d.ts"
 * @typedef {{ pk: number, name: string, saved_at: string }} Row
 */

const { bridgeUrl = "", channel = "", cursor } = document.body.dataset
const badge = /** @type {HTMLElement} */ (document.getElementById("badge"))
const feed = /** @type {HTMLElement} */ (document.getElementById("feed"))
const template = /** @type {HTMLTemplateElement} */ (document.getElementById("row"))

function show(/** @type {string} */ state, /** @type {string} */ text) {
  badge.dataset.state = state
  badge.textContent = text
}

function onState(/** @type {State} */ state) {
  if (state === "waiting") show("waiting", "Trying again")
  if (state === "closed") show("closed", "Closed")
}

function append(/** @type {Row | string} */ payload) {
  const { pk, name = JSON.stringify(payload), saved_at = "" } = Object(payload)
  // What was committed last may be both in the rows and after the cursor.
  if (pk !== undefined && feed.querySelector(`[data-pk="${Number(pk)}"]`)) return
  const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true))
  const row = /** @type {HTMLElement} */ (copy.firstElementChild)
  const fill = (/** @type {string} */ part, /** @type {string} */ text) => {
    row.getElementsByClassName(part)[0].textContent = text
  }
  row.dataset.pk = pk
  fill("name", name)
  fill("time", saved_at.slice(11, 19))
  fill("key", pk === undefined ? "no row" : `#${pk}`)
  feed.prepend(row)
}

/** Give the visitor time to save what this page will not have missed. */
async function wait(/** @type {number} */ seconds) {
  for (; seconds > 0; seconds -= 1) {
    show("waiting", `Connects in ${seconds} s`)
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
}

await wait(Number(new URLSearchParams(location.search).get("wait")))
show("connecting", "Connecting")
try {
  const { connect } = await import(`${bridgeUrl}/static/client/pgbridge.js`)
  connect(`${bridgeUrl}/ws`, { onState }).subscribe(channel, append, {
    cursor,
    onSubscribed: () => show("live", "Live"),
    onInterrupted: () => show("interrupted", "Interrupted"),
    onRestored: () => show("live", "Live"),
    onGap: () => location.reload(), // the state of this page is what is rendered
  })
} catch {
  show("closed", "Bridge not reachable")
}
