/** Batches of commands as they are in RabbitMQ: JSON, checked as it is read, since a queue holds whatever was put into it. */
import type { ConsumeMessage } from "amqplib"
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import { partitionOf } from "../domain/partition.ts"
import { AfterForm, ConversationIdForm, FlagForm, SeqForm, UserIdForm } from "../domain/protocol/forms.ts"
import type { Unreadable } from "../platform/RabbitConsumer.ts"
import { retriedLetter } from "../platform/rabbitLetters.ts"
import type { CommandBatch } from "./CommandBus.ts"
import { BATCH_COMMANDS } from "./CommandPublisher.ts"

/** Raise it when older code would misread what is written; it puts what it cannot read to the dead letters, for `retry` after the upgrade. */
const VERSION = 1

/**
 * The longest message that is read, in bytes: several times what an edge makes of a batch. Larger ones, and those of more commands than a committer takes at once, could be read and
 * not be committed, by no writer and at no try.
 */
const MESSAGE_BYTES = 4 * 1024 * 1024

const Users = Schema.Array(UserIdForm)

const Intent = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("send"),
    kind: Schema.String,
    body: Schema.String,
    replyTo: Schema.optionalKey(SeqForm)
  }),
  Schema.Struct({ type: Schema.Literal("edit"), target: SeqForm, body: Schema.String }),
  Schema.Struct({ type: Schema.Literal("delete"), target: SeqForm }),
  Schema.Struct({ type: Schema.Literal("react"), target: SeqForm, emoji: Schema.String, on: FlagForm }),
  Schema.Struct({ type: Schema.Literal("create"), members: Users, title: Schema.optionalKey(Schema.String) }),
  Schema.Struct({ type: Schema.Literal("members"), add: Users, remove: Users }),
  Schema.Struct({ type: Schema.Literal("leave") }),
  Schema.Struct({ type: Schema.Literal("title"), title: Schema.String }),
  Schema.Struct({
    type: Schema.Literal("mark"),
    delivered: Schema.optionalKey(AfterForm),
    seen: Schema.optionalKey(AfterForm)
  })
])

const Wire = Schema.Struct({
  v: Schema.Literal(VERSION),
  edge: Schema.NonEmptyString,
  counter: SeqForm,
  commands: Schema.Array(
    Schema.Struct({
      conv: ConversationIdForm,
      by: UserIdForm,
      cid: Schema.String,
      intent: Intent,
      origin: Schema.Struct({ node: Schema.String, session: Schema.String, rid: Schema.optionalKey(Schema.String) }),
      traceparent: Schema.optionalKey(Schema.String)
    })
  )
})

const isWire = Schema.is(Wire)
const decodeWire = Schema.decodeUnknownExit(Wire)

export const encodeBatch = ({ commands, counter, edge }: CommandBatch): Buffer =>
  Buffer.from(JSON.stringify({ v: VERSION, edge, counter, commands }))

const why = (wire: unknown): string => {
  const exit = decodeWire(wire)
  const failure = exit._tag === "Failure" ? exit.cause.reasons.find(Cause.isFailReason) : undefined
  return failure === undefined ? "it does not say why" : failure.error.message.replace(/\s*\n\s*/g, " ")
}

const unreadable = (reason: string): Unreadable => ({ unreadable: reason })

/**
 * Reads a batch from the queue of this partition. One that an operator sent back from the dead letters comes without a counter: that of its edge
 * has passed it long since, and what is behind the counter is taken for a repeat.
 */
export const decodeBatch = (
  message: ConsumeMessage,
  partition: number,
  partitions: number
): CommandBatch | Unreadable => {
  const { length } = message.content
  if (length > MESSAGE_BYTES) return unreadable(`it has ${length} bytes; at most ${MESSAGE_BYTES} are read`)
  let wire: unknown
  try {
    wire = JSON.parse(message.content.toString())
  } catch {
    return unreadable("it is not JSON")
  }
  if (!isWire(wire)) return unreadable(`it is no batch of commands: ${why(wire)}`)
  const count = wire.commands.length
  if (count > BATCH_COMMANDS) return unreadable(`it holds ${count} commands; at most ${BATCH_COMMANDS} are one batch`)
  const astray = wire.commands.find(({ conv }) => partitionOf(conv, partitions) !== partition)
  if (astray !== undefined) return unreadable(`${astray.conv} does not belong to partition ${partition}`)
  const letter = retriedLetter(message)
  return letter === undefined
    ? { partition, edge: wire.edge, counter: wire.counter, commands: wire.commands }
    : { partition, edge: `retry-${letter}`, counter: 0, commands: wire.commands }
}
