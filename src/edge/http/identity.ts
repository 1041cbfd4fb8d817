import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { Auth } from "../auth/Auth.ts"
import { DardaApi } from "./api.ts"
import { problem } from "./problem.ts"

/** Tokens of `AUTH=dev`. */
export const layerIdentity = HttpApiBuilder.group(
  DardaApi,
  "identity",
  Effect.fnUntraced(function* (handlers) {
    const auth = yield* Auth
    return handlers.handle("devToken", ({ payload }) =>
      auth.mode === "dev"
        ? auth.issueDev(payload.user).pipe(Effect.mapError((refused) => problem("bad_request", refused.message)))
        : Effect.fail(problem("not_found", "Tokens are made by the identity provider here (AUTH=jwt)."))
    )
  })
)
