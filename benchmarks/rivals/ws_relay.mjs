// A relay in Node: `pg` listens, `ws` writes.
//
//   node ws_relay.mjs PORT DATABASE_URL       until stdin ends
//
// One connection listens to every channel; a message is made once and written
// to each of the channel's subscribers.

import pg from "pg";
import { WebSocketServer } from "ws";

const [port, connectionString] = process.argv.slice(2);
const channels = new Map(); // name -> { sockets, listening }

const client = new pg.Client({ connectionString });
client.on("notification", ({ channel, payload }) => {
  const text = `{"type":"notification","channel":${JSON.stringify(channel)},"data":${payload}}`;
  for (const socket of channels.get(channel).sockets) socket.send(text);
});

function find(name) {
  let channel = channels.get(name);
  if (channel === undefined) {
    const listening = client.query(`LISTEN ${client.escapeIdentifier(name)}`);
    channel = { sockets: new Set(), listening };
    channels.set(name, channel);
  }
  return channel;
}

async function serve(socket, request) {
  const name = new URL(request.url, "ws://localhost").searchParams.get("channel");
  const channel = find(name);
  channel.sockets.add(socket);
  socket.on("close", () => channel.sockets.delete(socket));
  socket.on("error", () => socket.terminate());
  await channel.listening;
  socket.send(JSON.stringify({ type: "subscribed", channel: name }));
}

process.stdin.on("end", () => process.exit()).resume();
await client.connect();
new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  backlog: 2048,
  perMessageDeflate: false,
}).on("connection", serve);
