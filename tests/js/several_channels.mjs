// The client with several channels on one connection: node several_channels.mjs URL
// CHANNEL ... Prints a line of JSON for each event and each gap, with its channel.

import { connect } from "../../static/client/pgbridge.js"

const [url, ...channels] = process.argv.slice(2)
const say = (...what) => console.log(JSON.stringify(what))

const bridge = connect(url)
for (const channel of channels) {
  bridge.subscribe(channel, (data) => say(channel, data.n), {
    onSubscribed: () => say(channel, "subscribed"),
    onGap: (gap) => say(channel, gap.reason),
    onError: (error) => say(channel, error.code),
  })
}
