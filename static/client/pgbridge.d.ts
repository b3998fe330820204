// The types of pgbridge.js. The module itself is checked against this file.

/** A notification that PostgreSQL delivered, or an entry of the journal. */
export interface NotificationMessage {
  type: "notification"
  channel: string
  /** The payload, when it is a JSON object or array. */
  data?: any
  /** The payload, when it is anything else. */
  text?: string
  /** Durable channels: the position of this notification, opaque. */
  cursor?: string
}

/** What commits on the channel from here on is delivered. */
export interface SubscribedMessage {
  type: "subscribed"
  channel: string
  /** Of the request that it answers. */
  id?: number
  durable: boolean
  /** Nothing since your cursor is missing. */
  resumed: boolean
  /** Durable channels: everything after it follows. */
  cursor?: string
}

/** The source is away: nothing can arrive until `gap` or `restored`. */
export interface InterruptedMessage {
  type: "interrupted"
  channel: string
  reason: string
}

/** A durable channel is live again and nothing is missing. */
export interface RestoredMessage {
  type: "restored"
  channel: string
}

/** Something may be missing; what commits after this message is complete. */
export interface GapMessage {
  type: "gap"
  channel: string
  reason:
    | "listener_lost" | "slow" | "not_kept" | "expired" | "epoch_changed" | "too_large"
    | (string & {})
  /** Unix seconds: the last moment known to be complete. */
  since?: number
  cursor?: string
  /** Seconds over which all pages together load their state again. */
  reload_window: number
}

/** The last word on a channel. */
export interface UnsubscribedMessage {
  type: "unsubscribed"
  channel: string
  reason: "requested" | "revoked" | "expired" | (string & {})
  /** Of the request that it answers. */
  id?: number
}

/** A request was refused; the connection is kept. */
export interface ErrorMessage {
  type: "error"
  code:
    | "bad_message" | "unknown_type" | "bad_channel" | "bad_cursor"
    | "not_authenticated" | "forbidden" | "token_invalid" | "token_expired"
    | "too_many_channels" | "rate_limited" | "unavailable" | "internal"
    | (string & {})
  message: string
  channel?: string
  /** Of the request that it answers. */
  id?: number
  /** Seconds after which the request may be made again. */
  retry_delay?: number
}

/** The first message of a connection. */
export interface WelcomeMessage {
  type: "welcome"
  protocol: number
  /** Seconds. */
  heartbeat_interval: number
  max_channels: number
  authenticated: boolean
}

/** The last message before the server closes. */
export interface ByeMessage {
  type: "bye"
  reason: string
  /** Seconds. */
  reconnect_delay?: number
  reload_window?: number
}

/** A sign of life. */
export interface HeartbeatMessage {
  type: "heartbeat"
  /** You have everything up to here on all your durable channels. */
  cursor?: string
}

export interface PongMessage {
  type: "pong"
}

/** Any message of the server. Types that are not named here may come. */
export type Message =
  | NotificationMessage | SubscribedMessage | InterruptedMessage | RestoredMessage
  | GapMessage | UnsubscribedMessage | ErrorMessage
  | WelcomeMessage | ByeMessage | HeartbeatMessage | PongMessage

/**
 * - `connecting`: a socket is being opened
 * - `open`: the server has said `welcome`
 * - `waiting`: the connection is lost; the next try is in `detail.delay` seconds
 * - `closed`: for good, see `detail.code` and `detail.reason`
 */
export type State = "connecting" | "open" | "waiting" | "closed"

export interface StateDetail {
  /** Seconds until the next try, in `waiting`. */
  delay?: number
  /** The close code, in `closed`; 1000 after `close()`. */
  code?: number
  reason?: string
}

export interface ConnectOptions {
  /** Called at every change of state; with `connecting` before `connect` returns. */
  onState?: (state: State, detail: StateDetail) => void
  /** Called with every message of the server as it arrives, before anything else. */
  onMessage?: (message: Message) => void
  /** Where the platform has none, or for tests. */
  WebSocket?: typeof WebSocket
  /** A number from 0 up to 1, as `Math.random`; for tests. */
  random?: () => number
}

/** What a subscription may want to know beside its notifications. */
export interface Callbacks {
  /**
   * The subscription is in force. Load your state at the first call: then
   * nothing can fall between the state and the first notification.
   */
  onSubscribed?: (message: SubscribedMessage) => void
  /**
   * Something may be missing: load your state again. Called after a random
   * part of `reload_window`, once for all gaps that arrive meanwhile, with the
   * first of them.
   */
  onGap?: (gap: GapMessage) => void
  /**
   * The source is away. It ends with `onGap` or `onRestored`, or with
   * `onSubscribed` when that has not been called yet.
   */
  onInterrupted?: (message: InterruptedMessage) => void
  /** A durable channel is live again and nothing is missing. */
  onRestored?: (message: RestoredMessage) => void
  /**
   * The channel was refused. After `unavailable`, `rate_limited` and `internal`
   * it is asked for again after `retry_delay`, up to half longer; after any
   * other code the subscription is over.
   */
  onError?: (error: ErrorMessage) => void
  /** The server took the subscription away: it is over. */
  onUnsubscribed?: (message: UnsubscribedMessage) => void
  /**
   * Durable channels: start after this position, that of a page rendered on the
   * server for example; ignored where the page has the channel already.
   */
  cursor?: string
}

export interface Subscription {
  /** Stop calling this handler; the last one of a channel leaves the channel. */
  unsubscribe(): void
}

export interface Bridge {
  readonly state: State
  /**
   * Call `handler` with every notification of a channel.
   *
   * `data` is the payload: parsed when it is a JSON object or array, else its
   * text. The cursor moves on after all handlers of the channel returned. A
   * handler that throws leaves it where it was, so that its notification comes
   * again after a lost connection, unless a later one was handled or a heartbeat
   * came meanwhile. An async handler counts as returned at its first `await`.
   */
  subscribe<Data = any>(
    channel: string,
    handler: (data: Data, message: NotificationMessage) => void,
    callbacks?: Callbacks,
  ): Subscription
  /** Close for good, and forget every subscription. */
  close(): void
}

/** Close codes of the server after which the client connects again. */
export const RECONNECT: Readonly<Record<number, string>>

/** Close codes after which it does not. After any code in neither it does. */
export const NO_RECONNECT: Readonly<Record<number, string>>

/**
 * Connect to a pgbridge server, and again whenever the connection is lost.
 *
 * @param url relative to the page, or absolute; http and https become ws and wss
 * @throws SyntaxError or TypeError when the URL is not one
 */
export function connect(url: string | URL, options?: ConnectOptions): Bridge
