// A page that mounts a part, takes it away and mounts it again in one go, as React's
// strict mode does: node remounted.mjs URL CHANNEL. Prints a line of JSON for all that
// the second mounting is told; what the first one is told would be a line, too.

import { connect } from "../../static/client/pgbridge.js"

const [url, channel] = process.argv.slice(2)
const say = (...what) => console.log(JSON.stringify(what))

const mount = (which) =>
  bridge.subscribe(channel, (data) => say(which, "data", data), {
    onSubscribed: () => say(which, "subscribed"),
    onError: (error) => say(which, "error", error.code),
    onUnsubscribed: ({ reason }) => say(which, "unsubscribed", reason),
  })

const bridge = connect(url, {
  onState(state) {
    if (state !== "open") return
    mount("first").unsubscribe()
    mount("second")
  },
})
