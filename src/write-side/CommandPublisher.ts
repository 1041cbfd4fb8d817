import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Command } from "../domain/commands.ts"
import { partitionOf } from "../domain/partition.ts"
import { makeQuietLog } from "../platform/quietLog.ts"
import type { CommandBatch, CommandBus, CommandBusUnavailable } from "./CommandBus.ts"

/** Commands in one batch: what a committer takes at once. */
export const BATCH_COMMANDS = 500
/** Bytes in one batch: a consumer may hold some dozens of a partition. */
const BATCH_BYTES = 256 * 1024

/** Commands and bytes that wait in one partition's buffer before `offer` answers false. */
export const BUFFER_COMMANDS = 5_000
export const BUFFER_BYTES = 8 * 1024 * 1024

/** A batch that was not confirmed is published again. Made once: a batch may be of one command. */
const AGAIN = Schedule.min([Schedule.exponential("20 millis"), Schedule.spaced("1 second")])

/** About what a command takes on the wire, in bytes. */
export const sizeOf = (command: Command): number =>
  200 +
  ("body" in command.intent ? command.intent.body.length * 2 : 0) +
  ("members" in command.intent ? command.intent.members.length * 40 : 0)

interface Buffer {
  commands: Array<Command>
  bytes: number
  counter: number
  publishing: boolean
}

/**
 * An edge's end of the command bus: one unconfirmed batch a partition, holding what piled up meanwhile, published again until it
 * is confirmed and never skipped. By that, and by its counter, a reconnect can neither reorder nor drop.
 *
 * Lives as long as its scope; what is not confirmed then is lost with the edge, whose clients send it again.
 */
export const makeCommandPublisher = (options: {
  readonly edge: string
  readonly partitions: number
  readonly publish: (batch: CommandBatch) => Effect.Effect<void, CommandBusUnavailable>
}): Effect.Effect<Pick<CommandBus["Service"], "offer" | "onSent">, never, Scope.Scope> =>
  Effect.gen(function* () {
    const listeners = new Set<(batch: CommandBatch) => void>()
    const buffers = Array.from({ length: options.partitions }, (): Buffer => ({
      commands: [],
      bytes: 0,
      counter: 0,
      publishing: false
    }))
    const work = Latch.makeUnsafe(false)
    const quiet = makeQuietLog()

    const cut = (buffer: Buffer): ReadonlyArray<Command> => {
      let count = 0
      let bytes = 0
      while (count < buffer.commands.length && count < BATCH_COMMANDS) {
        const size = sizeOf(buffer.commands[count]!)
        if (count > 0 && bytes + size > BATCH_BYTES) break
        bytes += size
        count++
      }
      const commands = buffer.commands.slice(0, count)
      buffer.commands = buffer.commands.slice(count)
      buffer.bytes -= bytes
      return commands
    }

    const publishAll = Effect.fnUntraced(function* (partition: number, buffer: Buffer) {
      while (buffer.commands.length > 0) {
        const batch = { partition, edge: options.edge, counter: ++buffer.counter, commands: cut(buffer) }
        yield* options.publish(batch).pipe(
          Effect.tapError((error) => quiet.warn("Publishing commands", error.message)),
          Effect.retry(AGAIN)
        )
        for (const listener of listeners) listener(batch)
        yield* quiet.over("Publishing commands")
      }
    })
    /** A bug costs the batch that it came with, and not the partition for as long as the process lives. */
    const publishing = (partition: number, buffer: Buffer) =>
      publishAll(partition, buffer).pipe(
        Effect.tapCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.void
            : Effect.logError(`publishing commands of partition ${partition} failed by a bug`, cause)
        ),
        Effect.ignoreCause,
        Effect.andThen(
          Effect.sync(() => {
            buffer.publishing = false
            if (buffer.commands.length > 0) work.openUnsafe()
          })
        )
      )

    yield* Effect.forever(
      Effect.gen(function* () {
        yield* work.await
        // Not at once: what the sockets bring within a turn of the event loop is then one batch, one commit, and one write to each who is told of it.
        yield* Effect.yieldNow
        work.closeUnsafe()
        for (let partition = 0; partition < buffers.length; partition++) {
          const buffer = buffers[partition]!
          if (buffer.publishing || buffer.commands.length === 0) continue
          buffer.publishing = true
          yield* Effect.forkChild(publishing(partition, buffer), { startImmediately: true })
        }
      })
    ).pipe(
      Effect.tapCause((cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("publishing commands failed", cause)
      ),
      Effect.forkScoped
    )

    return {
      offer: (command) => {
        const buffer = buffers[partitionOf(command.conv, options.partitions)]!
        const size = sizeOf(command)
        if (buffer.commands.length >= BUFFER_COMMANDS || buffer.bytes + size > BUFFER_BYTES) return false
        buffer.commands.push(command)
        buffer.bytes += size
        if (!buffer.publishing) work.openUnsafe()
        return true
      },
      onSent: (listener) =>
        Effect.acquireRelease(
          Effect.sync(() => listeners.add(listener)),
          () => Effect.sync(() => listeners.delete(listener))
        )
    }
  })
