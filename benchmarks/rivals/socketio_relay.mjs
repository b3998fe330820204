// A relay as an old talk had it: Socket.IO, and LISTEN on 'subscribe'.
//
//   node socketio_relay.mjs PORT DATABASE_URL       until stdin ends
//
// Each channel has a PostgreSQL connection of its own; what it brings is emitted
// as 'notification' to everybody who asked for the channel. Two things are not
// the talk's: the name is quoted, and 'subscribe' is acknowledged.

import { createServer } from "node:http";
import pg from "pg";
import { Server } from "socket.io";

const [port, connectionString] = process.argv.slice(2);
const channels = new Map(); // name -> promise of its LISTEN
const server = createServer();
const io = new Server(server);

async function listen(name) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  client.on("notification", ({ payload }) => io.to(name).emit("notification", payload));
  await client.query(`LISTEN ${client.escapeIdentifier(name)}`);
}

io.on("connection", (socket) => {
  socket.on("subscribe", async (name, acknowledge) => {
    if (!channels.has(name)) channels.set(name, listen(name));
    socket.join(name);
    await channels.get(name);
    acknowledge?.(name);
  });
});

process.stdin.on("end", () => process.exit()).resume();
server.listen(Number(port), "127.0.0.1", 2048);
