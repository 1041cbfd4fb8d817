/** The port of this process: taken before anything else is touched, so that a taken one ends the start while nothing has happened. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createHttpServer } from "../edge/http/server.ts"
import type { SettingsValues } from "../platform/Settings.ts"

/** The port cannot be opened. */
export class PortUnavailable extends Schema.TaggedError<PortUnavailable>()("PortUnavailable", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** Sockets that were upgraded are not the server's to close; whoever holds one longer than this does not hold the process up. */
const CLOSE_WITHIN = "2 seconds"

/** A server that listens, and where. */
export interface Listening {
  readonly server: Server
  readonly port: number
}

/** Why a port cannot be opened, for a person. */
export const explainListenError = ({ host, port }: SettingsValues, cause: NodeJS.ErrnoException): string => {
  switch (cause.code) {
    case "EADDRINUSE":
      return `Port ${port} on ${host} is taken: stop who has it, or set another PORT`
    case "EACCES":
      return `This user may not open port ${port}: set a PORT from 1024`
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `HOST ${host} is no address of this machine: set another`
    default:
      return `Port ${port} on ${host} cannot be opened: ${cause.message}`
  }
}

/** Listens until the scope closes. Requests are answered 503 until somebody else listens to them. */
export const listen = (settings: SettingsValues): Effect.Effect<Listening, PortUnavailable, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Listening, PortUnavailable>((resume) => {
      const server = createHttpServer()
      server.once("error", (cause) => resume(new PortUnavailable({ reason: explainListenError(settings, cause) })))
      server.listen(settings.port, settings.host, () =>
        resume(Effect.succeed({ server, port: (server.address() as AddressInfo).port }))
      )
    }),
    ({ server }) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      }).pipe(Effect.timeoutOrElse({ duration: CLOSE_WITHIN, orElse: () => Effect.void }))
  )
