import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { UserId } from "../../domain/ids.ts"

/** A token or ticket that is not accepted. The message says why without repeating any of it. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", { message: Schema.String }) {}

/** Who somebody is, and until when (milliseconds) that may be believed. */
export interface Identity {
  readonly user: UserId
  readonly expiresAt: number
}

/** Who is who: tokens of the identity provider, or of this server itself with `AUTH=dev`; and tickets for `hello`. */
export class Auth extends Context.Service<
  Auth,
  {
    readonly mode: "dev" | "jwt"
    readonly verify: (token: string) => Effect.Effect<Identity, Unauthorized>
    /** A token for any user; refused unless the mode is `dev`. */
    readonly issueDev: (
      user: UserId
    ) => Effect.Effect<{ readonly token: string; readonly expiresAt: number }, Unauthorized>
    /** A ticket that is good once and for 30 s, for a connection whose token runs out at `expiresAt`. */
    readonly issueTicket: (
      user: UserId,
      expiresAt: number
    ) => Effect.Effect<{ readonly ticket: string; readonly expiresAt: number }>
    readonly redeemTicket: (ticket: string) => Effect.Effect<Identity, Unauthorized>
  }
>()("darda/edge/Auth") {}
