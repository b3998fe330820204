// Runs the client against a real server: node against_server.mjs URL CHANNEL
// Prints what it is told, a line of JSON each; test_client_in_node.py reads them.

import { connect } from "../../static/client/pgbridge.js"

const [url, channel] = process.argv.slice(2)
const say = (...what) => console.log(JSON.stringify(what))

const bridge = connect(url, { onState: (state) => say("state", state) })
bridge.subscribe(channel, (data) => say("data", data), {
  onSubscribed: () => say("subscribed"),
  onInterrupted: () => say("interrupted"),
  onGap: (gap) => say("gap", gap.reason),
  onError: (error) => say("error", error.code),
})
