import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import type { ErrorCode } from "../domain/protocol/server-frames.ts"
import type { MetricsWriter } from "../platform/Metrics.ts"
import { clientAddress } from "./clientAddress.ts"
import { RateLimit } from "./RateLimit.ts"

/** Bounds of the pause that who is refused is asked for, in milliseconds: at random within them, or those who are refused together come back together. */
const RETRY_AFTER_MS = { min: 1_000, max: 5_000 }

/** How many connections one edge takes, as the settings give it. */
export interface AdmissionLimits {
  /** Open at once. */
  readonly connections: number
  /** New ones in a second, and as many at once. */
  readonly perSecond: number
  /** Open at once from one address; 0 for any number. */
  readonly perAddress: number
  /** Proxies before this server that are trusted to say in `X-Forwarded-For` who spoke to them. */
  readonly proxies: number
}

export interface AdmissionOptions {
  readonly limits: AdmissionLimits
  /** False while draining. */
  readonly accepting: () => boolean
  /** The clock, in milliseconds. */
  readonly now: () => number
  readonly metrics: Pick<MetricsWriter, "refused">
}

/** Why somebody may not connect, and when to try again. */
export interface NotAdmitted {
  readonly code: Extract<ErrorCode, "busy" | "rate_limited" | "unavailable">
  readonly detail: string
  readonly retryAfterMs: number
}

/** Who may connect, judged before the handshake of a WebSocket: what is refused there costs neither a connection nor a session. */
export class Admission {
  readonly #options: AdmissionOptions
  readonly #rate: RateLimit
  /** Never more than there are connections. */
  readonly #byAddress = new Map<string, number>()
  #open = 0

  constructor(options: AdmissionOptions) {
    const { perSecond } = options.limits
    this.#options = options
    this.#rate = new RateLimit(perSecond, perSecond, options.now())
  }

  /** Takes a place for this socket until it is closed, or says why there is none. */
  admit(request: IncomingMessage, socket: Duplex): NotAdmitted | undefined {
    const { connections, perAddress, perSecond, proxies } = this.#options.limits
    if (!this.#options.accepting())
      return this.#refuse("draining", "unavailable", "This server is going away; try another.")
    if (this.#open >= connections)
      return this.#refuse("full", "busy", `This server has ${connections} connections and takes no more; try another.`)
    const address = perAddress === 0 ? undefined : clientAddress(request, proxies)
    const held = address === undefined ? 0 : (this.#byAddress.get(address) ?? 0)
    if (address !== undefined && held >= perAddress)
      return this.#refuse(
        "address",
        "rate_limited",
        `Your address has ${perAddress} connections here; close one first.`
      )
    if (this.#rate.take(this.#options.now()) > 0)
      return this.#refuse(
        "rate",
        "busy",
        `This server takes ${perSecond} new connections a second; try again, or another.`
      )
    this.#open++
    if (address === undefined) {
      socket.on("close", this.#left)
    } else {
      this.#byAddress.set(address, held + 1)
      socket.on("close", () => this.#leftFrom(address))
    }
    return undefined
  }

  readonly #left = (): void => void this.#open--

  #leftFrom(address: string): void {
    this.#left()
    const left = this.#byAddress.get(address)! - 1
    if (left === 0) this.#byAddress.delete(address)
    else this.#byAddress.set(address, left)
  }

  #refuse(reason: Parameters<MetricsWriter["refused"]>[0], code: NotAdmitted["code"], detail: string): NotAdmitted {
    this.#options.metrics.refused(reason)
    const { max, min } = RETRY_AFTER_MS
    return { code, detail, retryAfterMs: Math.ceil(min + Math.random() * (max - min)) }
  }
}
