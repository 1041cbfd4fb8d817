import { Effect } from "effect"
import { makeMemoryRouting } from "../../src/platform/RouterMemory.ts"
import { routerContract } from "./Router.contract.ts"

routerContract(
  "memory",
  Effect.sync(() => {
    const routing = makeMemoryRouting(Date.now)
    return {
      join: (node: string) => Effect.sync(() => routing.join(node)),
      kill: (node: string) => Effect.sync(() => routing.leave(node))
    }
  })
)
