/** The demo's network: what goes through it is shown, and it can be switched off. */

/** A WebSocket that shows what goes through it, and has a plug to pull. */
export class Wiretap extends WebSocket {
  static offline = false
  /** @type {Wiretap | undefined} the one opened last */
  static last
  /** @type {(direction: "sent" | "received", text: string) => void} */
  static show = () => {}

  /** Pull the plug, or put it in again. The client sees what a lost network is. */
  static toggle() {
    Wiretap.offline = !Wiretap.offline
    const lost = new CloseEvent("close", { code: 1006 })
    if (Wiretap.offline) Wiretap.last?.dispatchEvent(lost)
    else dispatchEvent(new Event("online")) // so that it does not wait any longer
  }

  /** @param {string | URL} url @param {string | string[]} [protocols] */
  constructor(url, protocols) {
    if (Wiretap.offline) return /** @type {any} */ (new NoNetwork())
    super(url, protocols)
    this.addEventListener("message", (event) => Wiretap.show("received", event.data))
    Wiretap.last = this
  }

  send(/** @type {any} */ text) {
    Wiretap.show("sent", text)
    super.send(text)
  }
}

/** The WebSocket of a machine without a network. */
class NoNetwork {
  onclose = /** @type {((event: { code: number, reason: string }) => void)?} */ (null)

  constructor() {
    queueMicrotask(() => this.onclose?.({ code: 1006, reason: "" }))
  }

  close() {}
}
