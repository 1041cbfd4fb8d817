/** A room of socket.io, with the adapter that it has by itself. */
import { createServer } from "node:http"
import { Server } from "socket.io"
import type { Sent } from "../durable/front.ts"
import { endOnTerm, listen, ready } from "../durable/process.ts"
import { eventText } from "./event.ts"

const ROOM = "everybody"
const http = createServer()
// The members of this measurement answer no pings of socket.io's own.
const io = new Server(http, { transports: ["websocket"], serveClient: false, pingInterval: 3_600_000 })

io.on("connection", (socket) => {
  void socket.join(ROOM)
  socket.on("send", (message: Sent) => void socket.to(ROOM).emit("event", JSON.parse(eventText(socket.id, message))))
})
endOnTerm()
ready(await listen(http))
