import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { refused, type RedisCommand, type RedisConnection, RedisUnavailable, settled } from "./RedisConnection.ts"

/** Commands in one write. */
const COMMANDS = 512
/** Commands that may wait for the write. */
const WAITING = 20_000

type Answer = Effect.Effect<ReadonlyArray<unknown>, RedisUnavailable>

interface Asked {
  readonly operation: string
  readonly commands: ReadonlyArray<RedisCommand>
  readonly resume: (answer: Answer) => void
}

/**
 * Sends what many ask in the same moment in one write: a system call costs more than a command. Whoever asks is answered alone, in the order of their commands, and
 * fails alone with the first that was refused. More than 20,000 commands that wait are refused with `busy`. For reads: of one who is interrupted the answer is dropped.
 */
export const makeRedisBatch = (
  redis: RedisConnection
): Effect.Effect<(operation: string, commands: ReadonlyArray<RedisCommand>) => Answer> =>
  Effect.map(Effect.context<never>(), (context) => {
    const runFork = Effect.runForkWith(context)
    let pending = new Set<Asked>()
    let waiting = 0

    const send = (group: ReadonlyArray<Asked>): void => {
      const commands = group.flatMap((asked) => asked.commands)
      const work = redis.run("read", (client) => settled(client, commands))
      runFork(work).addObserver((exit) => {
        let at = 0
        for (const { commands, operation, resume } of group) {
          if (Exit.isSuccess(exit)) {
            const replies = exit.value.slice(at, (at += commands.length))
            const error = replies.find((reply) => reply instanceof Error)
            resume(error === undefined ? Effect.succeed(replies) : Effect.fail(refused(operation, error)))
          } else resume(Effect.mapError(exit, (error) => new RedisUnavailable({ ...error, operation })))
        }
      })
    }
    const flush = (): void => {
      const all = pending
      pending = new Set()
      waiting = 0
      let group: Array<Asked> = []
      let size = 0
      for (const asked of all) {
        if (size > 0 && size + asked.commands.length > COMMANDS) {
          send(group)
          group = []
          size = 0
        }
        group.push(asked)
        size += asked.commands.length
      }
      if (group.length > 0) send(group)
    }

    return (operation, commands) =>
      Effect.callback((resume) => {
        if (waiting + commands.length > WAITING) {
          const reason = "too many questions wait for it already"
          return resume(Effect.fail(new RedisUnavailable({ operation, code: "busy", reason, cause: undefined })))
        }
        const asked: Asked = { operation, commands, resume }
        // After everything that is ready now: answers that come together ask again together.
        if (pending.size === 0) setImmediate(flush)
        pending.add(asked)
        waiting += commands.length
        return Effect.sync(() => {
          if (pending.delete(asked)) waiting -= commands.length
        })
      })
  })
