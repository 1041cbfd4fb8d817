import { Effect } from "effect"
import { makeRouterRedis } from "../../src/platform/RouterRedis.ts"
import { tcpProxy } from "../support/proxy.ts"
import { redisAddress, redisServer } from "../support/redis-server.ts"
import { type RoutingEnds, routerContract } from "./Router.contract.ts"

routerContract(
  "redis",
  Effect.gen(function* () {
    const { address, port } = yield* redisServer()
    const scope = "test"
    const deaths = new Map<string, () => void>()
    const witness = yield* Effect.orDie(makeRouterRedis({ address, scope, node: "witness", edge: false }))
    return {
      join: (node) =>
        Effect.gen(function* () {
          const proxy = yield* tcpProxy(port)
          deaths.set(node, proxy.swallow)
          const address = redisAddress(`redis://127.0.0.1:${proxy.port}`)
          return yield* Effect.orDie(makeRouterRedis({ address, scope, node, edge: true }))
        }),
      // Nothing of it arrives any more, as if it were dead: its lease runs out.
      kill: (node) =>
        Effect.gen(function* () {
          deaths.get(node)!()
          while ((yield* witness.nodes).includes(node)) yield* Effect.yieldNow
        }).pipe(Effect.orDie)
    } satisfies RoutingEnds
  })
)
