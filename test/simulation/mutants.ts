import { constant, type Substitution } from "./substitutions.ts"

/** A deliberately broken build, and the invariant that it breaks. */
export interface Mutant {
  readonly name: string
  readonly invariant: string
  /** What is wrong with it. */
  readonly what: string
  readonly substitutions: ReadonlyArray<Substitution>
}

const change = (file: string, find: string, replace: string): Substitution => ({ file, find, replace })

/** One for each invariant that the simulation judges. Nothing of them is in the sources: they are made as a process loads them. */
export const mutants: ReadonlyArray<Mutant> = [
  {
    name: "ack-without-commit",
    invariant: "I1",
    what: "A commit that failed is told like one that succeeded.",
    substitutions: [
      change("src/write-side/Committer.ts", "      yield* appended\n", "      yield* Effect.ignore(appended)\n")
    ]
  },
  {
    name: "told-before-commit",
    invariant: "I2",
    what: "The relay is handed a batch before it is committed.",
    substitutions: [
      change(
        "src/write-side/Committer.ts",
        "      yield* appended\n",
        "      yield* this.#relay.hand({ outgoing: decided.outgoing, events: decided.events, at: now })\n      yield* appended\n"
      )
    ]
  },
  {
    name: "any-content-is-a-repeat",
    invariant: "I3",
    what: "Another content under a cid that is taken is answered as a repeat.",
    substitutions: [
      change("src/domain/decide.ts", "facts.prior.digest === digest\n", "facts.prior.digest.length > 0\n")
    ]
  },
  {
    name: "seqs-with-holes",
    invariant: "I4",
    what: "Every event takes two seqs, and the log does not look.",
    substitutions: [
      change("src/domain/decide.ts", "      seq: state.seq + 1,\n", "      seq: state.seq + 2,\n"),
      change(
        "src/write-side/EventLogMemory.ts",
        "    if ((kept?.head.seq ?? 0) !== before.seq ||",
        "    if (before.seq < 0 ||"
      ),
      change("src/write-side/EventLogRecords.ts", "if (event.seq !== last.seq + 1 ||", "if (")
    ]
  },
  {
    name: "batches-turned-around",
    invariant: "I5",
    what: "An edge publishes what piled up newest first.",
    substitutions: [
      change(
        "src/write-side/CommandPublisher.ts",
        "const commands = buffer.commands.slice(0, count)\n",
        "const commands = buffer.commands.slice(0, count).reverse()\n"
      )
    ]
  },
  {
    name: "one-spoils-all",
    invariant: "I6",
    what: "A command that is refused takes those after it in its batch along.",
    substitutions: [
      change(
        "src/write-side/Batch.ts",
        "      for (const command of batch.commands) {\n        commands++\n",
        "      let spoiled: ReturnType<typeof decide> | undefined\n      for (const command of batch.commands) {\n        commands++\n"
      ),
      change(
        "src/write-side/Batch.ts",
        "const decision = this.#judge(before, command, now, newDmsPerHour)\n",
        'const judged = this.#judge(before, command, now, newDmsPerHour)\n        if (judged._tag === "Rejected") spoiled = judged\n        const decision = judged._tag === "Accepted" ? (spoiled ?? judged) : judged\n'
      )
    ]
  },
  {
    name: "members-left-out",
    invariant: "I7",
    what: "The documents of members are not written with their events.",
    substitutions: [change("src/write-side/Batch.ts", "members: [...members.values()]\n", "members: []\n")]
  },
  {
    name: "positions-again",
    invariant: "I8",
    what: "A committer goes on from where it began, and the log does not compare.",
    substitutions: [
      change("src/write-side/Committer.ts", "position: head.position + run.events.length", "position: head.position"),
      change(
        "src/write-side/EventLogMemory.ts",
        "return head.epoch !== run.epoch || head.position !== run.position",
        "return head.epoch !== run.epoch"
      )
    ]
  },
  {
    name: "outbox-without-bus",
    invariant: "I9",
    what: "Entries leave the outbox without their events being published.",
    substitutions: [
      change(
        "src/write-side/Relay.ts",
        "Effect.forEach(runs, (run) => this.#toBus(partition, run), { discard: true })",
        "Effect.forEach(runs.slice(9), (run) => this.#toBus(partition, run), { discard: true })"
      )
    ]
  },
  {
    name: "repeats-given",
    invariant: "I10",
    what: "An event that comes a second time on a node's stream is given a second time.",
    substitutions: [
      change(
        "src/edge/Feed.ts",
        "      if (event.seq <= given.seq) return\n      if (event.seq === given.seq + 1) this.#give",
        "      if (event.seq <= given.seq + 1) this.#give"
      )
    ]
  },
  {
    name: "no-route",
    invariant: "I11",
    what: "A connection goes live without its user's route.",
    substitutions: [
      change(
        "src/edge/Node.ts",
        "        this.#router.register(user),\n        // The",
        "        Effect.void,\n        // The"
      )
    ]
  },
  {
    name: "lost-and-not-missed",
    invariant: "I11",
    what: "Connections that attach again after a loss do not ask for what they have missed.",
    substitutions: [
      change(
        "src/edge/reattach.ts",
        "missed: yield* node.queries.missed({ user, since, seqs: {}, barrier })",
        "missed: []"
      )
    ]
  },
  {
    name: "replay-from-the-second",
    invariant: "I12",
    what: "A resume leaves the first missed event of a conversation out.",
    substitutions: [
      change(
        "src/read-side/missed.ts",
        '{ _tag: "Replay", conv, after, head }',
        '{ _tag: "Replay", conv, after: after + 1, head }'
      )
    ]
  },
  {
    name: "cursor-past-a-loss",
    invariant: "I12",
    what: "A loss of the node's stream holds no cursor back.",
    substitutions: [
      change("src/edge/Feed.ts", "this.#floor !== undefined && !this.#suspended &&", "this.#floor !== undefined &&")
    ]
  },
  {
    name: "lost-routes",
    invariant: "I11",
    what: "After a loss nobody is registered again.",
    substitutions: [
      change("src/edge/reattach.ts", "Effect.forEach(node.users(),", "Effect.forEach([] as Array<string>,")
    ]
  },
  {
    name: "no-interest",
    invariant: "I11",
    what: "A node does not register the big conversations of its users.",
    substitutions: [
      change("src/edge/BigConversations.ts", "Effect.map(router.register(conv), ", "Effect.map(Effect.void, ")
    ]
  },
  {
    name: "big-and-removed",
    invariant: "I17",
    what: "Who is removed from a big conversation is still told of it.",
    substitutions: [
      change(
        "src/edge/BigConversations.ts",
        "else if (known.convs?.delete(conv) === true) this.#leave(conv, user)",
        "else if (known.convs?.delete(conv) === true && big !== true) this.#leave(conv, user)"
      )
    ]
  },
  {
    name: "marks-past-the-head",
    invariant: "I13",
    what: "A mark may be past the newest event.",
    substitutions: [change("src/domain/decide.ts", "  if (furthest > state.seq) {\n", "  if (furthest < 0) {\n")]
  },
  {
    name: "answers-behind",
    invariant: "I14",
    what: "Queries do not wait for the read models to have what the asker has seen.",
    substitutions: [
      change(
        "src/read-side/QueriesLive.ts",
        "return readModels.reached(atLeast, BEHIND_MS).pipe(",
        "return Effect.succeed(true).pipe("
      ),
      change("src/read-side/QueriesLive.ts", "readModels.reached(atLeast, 0)", "Effect.succeed(true)")
    ]
  },
  {
    name: "repeats-applied",
    invariant: "I15",
    what: "A projection applies an event again when it comes again.",
    substitutions: [
      change(
        "src/read-side/Store.ts",
        "      if (event.position <= checkpoint) continue\n",
        "      if (event.position <= checkpoint) project(rows, event)\n      if (event.position <= checkpoint) continue\n"
      )
    ]
  },
  {
    name: "replay-tells-marks",
    invariant: "I16",
    what: "The projector tells clients of the marks that it applies.",
    substitutions: [
      change(
        "src/read-side/Projector.ts",
        "import { fill,",
        'import { Router } from "../platform/Router.ts"\nimport { fill,'
      ),
      change(
        "src/read-side/Projector.ts",
        "make(yield* EventLog, yield* EventBus, yield* ReadModels, yield* Tracing)",
        "make(yield* EventLog, yield* EventBus, yield* ReadModels, yield* Tracing, yield* Router)"
      ),
      change(
        "src/read-side/Projector.ts",
        "  tracing: TracingOn | undefined\n): Projector",
        '  tracing: TracingOn | undefined,\n  router: Router["Service"]\n): Projector'
      ),
      change(
        "src/read-side/Projector.ts",
        "    return (known = yield* readModels.apply(runs))\n",
        `    for (const event of runs.flatMap((run) => run.events)) {
      if (event.type !== "marked") continue
      const receipt = { conv: event.conv, user: event.by, seen: event.data.seen ?? 0 }
      const nodes = yield* Effect.orDie(router.nodes)
      for (const node of nodes) yield* Effect.orDie(router.append(node, [{ _tag: "Receipt", receipt, users: [event.by] }]))
    }
    return (known = yield* readModels.apply(runs))
`
      )
    ]
  },
  {
    name: "former-members-read",
    invariant: "I17",
    what: "Who was a member once may read for ever.",
    substitutions: [
      change("src/read-side/QueriesLive.ts", "if (access?.member === true) return", "if (access !== undefined) return")
    ]
  },
  {
    name: "queue-without-end",
    invariant: "I18",
    what: "What waits for a slow client piles up without a limit.",
    substitutions: [change("src/edge/Outgoing.ts", "(this.#frames?.length ?? 0) + count <= QUEUE_FRAMES && ", "")]
  },
  {
    name: "refusals-unsaid",
    invariant: "I19",
    what: "Refusals are not sent, and what is not answered is forgotten.",
    substitutions: [
      change(
        "src/write-side/Batch.ts",
        "          outgoing.push(answerTo(command, decision))\n          continue",
        '          if (decision._tag === "Repeat") outgoing.push(answerTo(command, decision))\n          continue'
      ),
      constant("src/edge/Connection.ts", "ANSWER_WITHIN_MS", 250_000)
    ]
  }
]
