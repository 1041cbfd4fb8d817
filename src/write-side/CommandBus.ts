import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Command } from "../domain/commands.ts"

/** The bus did not confirm, or the consumer's connection was lost. */
export class CommandBusUnavailable extends Schema.TaggedError<CommandBusUnavailable>()("CommandBusUnavailable", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The command bus did not answer (${this.operation}).`
  }
}

/** Commands of one edge for one partition, in the order in which they were submitted. At most 500 commands. */
export interface CommandBatch {
  readonly partition: number
  /** The edge's boot id. */
  readonly edge: string
  /**
   * 1, 2, 3, … per edge and partition: a committer takes them without a jump. 0 where it comes from no edge but by hand: it is taken whenever it comes, and remembered by its
   * commands alone, since there may be more of these than edges that are remembered.
   */
  readonly counter: number
  readonly commands: ReadonlyArray<Command>
}

/** A batch as a consumer is given it. */
export interface Delivery {
  readonly batch: CommandBatch
  /** Tells the bus that the batch is committed. Only for the consumer that was given it; repeats do nothing. */
  readonly ack: () => void
}

/** A consumer of all partitions that the bus assigns to this process. When its scope closes, what it did not ack is delivered again. */
export interface CommandConsumer {
  /** Waits for the first delivery and answers all that wait, up to `maxCommands` (a single larger batch passes whole). */
  readonly take: (maxCommands: number) => Effect.Effect<ReadonlyArray<Delivery>, CommandBusUnavailable>
  /** Gives a partition's unacked deliveries back, to be delivered again in order. */
  readonly restart: (partition: number) => Effect.Effect<void, CommandBusUnavailable>
}

/**
 * From the edges to the committers: durable, in order per edge and partition, at least once.
 */
export class CommandBus extends Context.Service<
  CommandBus,
  {
    /**
     * Submits a command without waiting; false when the bounded buffer of its partition is full, and then the command is nowhere. A command that was taken
     * is published until it is confirmed.
     */
    readonly offer: (command: Command) => boolean
    /**
     * Calls `listener` with each batch at the moment at which the bus confirmed it, until the scope closes: its commands are durable, and sent. In the step of the confirm, so it
     * does little, and does not throw.
     */
    readonly onSent: (listener: (batch: CommandBatch) => void) => Effect.Effect<void, never, Scope.Scope>
    readonly consumer: Effect.Effect<CommandConsumer, CommandBusUnavailable, Scope.Scope>
  }
>()("darda/write-side/CommandBus") {}
