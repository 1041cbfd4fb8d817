import fc from "fast-check"
import { dmConversation } from "../../src/domain/ids.ts"
import type { Fields } from "./checker.ts"
import type { Device } from "./sim-client.ts"
import { type Fault, FAULTS } from "./sim-handles.ts"
import type { World } from "./sim-world.ts"

/** What happens in a history besides what follows from it. Its numbers are reduced to what exists when it is carried out, so that every shrunk one makes sense. */
export interface Step {
  readonly what: (typeof WHATS)[number]
  readonly who: number
  readonly conv: number
  readonly target: number
  readonly others: ReadonlyArray<number>
  readonly on: boolean
  /** Milliseconds that pass before it. */
  readonly wait: number
}

/** A whole history before it happened. */
export interface Plan {
  readonly seed: number
  readonly embedded: boolean
  readonly partitions: number
  readonly writers: number
  readonly edges: number
  readonly users: number
  /** Devices beyond the first one of each user. */
  readonly moreDevices: number
  readonly latency: number
  readonly steps: ReadonlyArray<Step>
  readonly faults: ReadonlyArray<Fault>
}

const TALK = ["send", "send", "send", "burst", "edit", "delete", "react", "mark", "repeat", "conflict"] as const
const GROUP = ["create", "add", "remove", "leave", "title", "send-group", "send-group", "send-group"] as const
const ASK = ["history", "sync", "convs", "roster", "typing", "stray"] as const
const TROUBLE = ["disconnect", "vanish", "stall", "read-on", "away", "back", "forget"] as const
const ENGINES = [
  "hand-over",
  "pass-on",
  "usurp",
  "usurp",
  "kill-writer",
  "kill-edge",
  "drain",
  "lose-stream",
  "lose-stream",
  "kill-reader",
  "freeze-writer",
  "freeze-reader",
  "reset-models",
  "rebuild",
  "rebuild",
  "pause"
] as const
const WHATS = [...TALK, ...GROUP, ...ASK, ...TROUBLE, ...ENGINES] as const

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.oneof(
    { weight: 10, arbitrary: fc.constantFrom(...TALK) },
    { weight: 8, arbitrary: fc.constantFrom(...GROUP) },
    { weight: 4, arbitrary: fc.constantFrom(...ASK) },
    { weight: 4, arbitrary: fc.constantFrom(...TROUBLE) },
    { weight: 2, arbitrary: fc.constantFrom(...ENGINES) }
  ),
  who: fc.nat(50),
  conv: fc.nat(50),
  target: fc.nat(50),
  others: fc.array(fc.nat(50), { maxLength: 3 }),
  on: fc.boolean(),
  wait: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(0, 0, 1, 5, 20) },
    { weight: 3, arbitrary: fc.nat(300) },
    { weight: 1, arbitrary: fc.constantFrom(1000, 3000, 6000) }
  )
})

/** Where something that goes wrong can cost most. */
const CRUCIAL = [
  "log.append",
  "log.claim",
  "log.relayed",
  "commands.publish",
  "events.publish",
  "router.appendAll",
  "models.apply"
]

const faultsOf = (ops: ReadonlyArray<string>) =>
  fc.constantFrom(...ops.flatMap((op) => FAULTS[op]!.map((kind) => ({ op, kind }))))

const fault: fc.Arbitrary<Fault> = fc.oneof(faultsOf(Object.keys(FAULTS)), faultsOf(CRUCIAL)).chain(({ kind, op }) =>
  fc.record({
    op: fc.constant(op),
    kind: fc.constant(kind),
    nth: fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 5 }) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 20 }) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 60 }) }
    ),
    ms: fc.constantFrom(50, 700, 3000, 12_000, 25_000)
  })
)

/** Histories of a few people, some dozen steps and a handful of faults. */
export const plan: fc.Arbitrary<Plan> = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  embedded: fc.integer({ min: 0, max: 3 }).map((one) => one === 3),
  partitions: fc.integer({ min: 1, max: 3 }),
  writers: fc.integer({ min: 1, max: 2 }),
  edges: fc.integer({ min: 1, max: 2 }),
  users: fc.integer({ min: 2, max: 4 }),
  moreDevices: fc.integer({ min: 0, max: 2 }),
  latency: fc.constantFrom(0, 2, 20),
  steps: fc.array(step, { minLength: 5, maxLength: 40, size: "max" }),
  faults: fc.array(fault, { maxLength: 4, size: "max" })
})

const EMOJIS = ["👍", "🎉"]

/** Carries out one step. */
export const perform = (
  world: World,
  devices: ReadonlyArray<Device>,
  groups: ReadonlyArray<string>,
  one: Step,
  index: number
): void => {
  const device = devices[one.who % devices.length]!
  const users = [...new Set(devices.map(({ user }) => user))]
  const pick = <A>(items: ReadonlyArray<A>, n: number): A => items[n % items.length]!
  const user = (n: number): string => pick(users, n)
  const dms = users.map((other) => dmConversation(device.user, other))
  const convs = [...groups, ...dms]
  const group = groups.length === 0 ? undefined : pick(groups, one.conv)
  const conv = pick(convs, one.conv)
  const head = (of: string): number => Math.max(1, world.log.conversation(of)?.seq ?? 0)
  const target = (of: string): number => 1 + (one.target % head(of))
  const rid = `r${index}`
  const text = `${device.device} ${index}`
  const places = (role: "writer" | "edge" | "reader") => world.places(role).flatMap((place) => place.process ?? [])
  const command = (frame: Fields): void => device.command({ ...frame, cid: device.cid() })

  switch (one.what) {
    case "send":
      return command(
        one.on
          ? { t: "send", to: user(one.conv), body: text }
          : { t: "send", conv, body: text, ...(one.target % 5 === 0 ? { replyTo: target(conv) } : {}) }
      )
    case "send-group":
      if (group === undefined) return
      return command({ t: "send", conv: group, body: text })
    case "burst": {
      const count = 2 + (one.target % 12)
      return device.commands(
        Array.from({ length: count }, (_, i) => ({ t: "send", cid: device.cid(), conv, body: `${text} ${i}` }))
      )
    }
    case "edit":
      return command({ t: "edit", conv, target: target(conv), body: `${text} edited` })
    case "delete":
      return command({ t: "delete", conv, target: target(conv) })
    case "react":
      return command({ t: "react", conv, target: target(conv), emoji: pick(EMOJIS, one.target), on: one.on })
    case "mark": {
      const known = device.have.get(conv) ?? 0
      // Now and then past the head, which is refused.
      const seq = one.target % 8 === 0 ? known + 3 : Math.max(1, known - (one.target % 3))
      return device.say({ t: "mark", conv, ...(one.on ? { seen: seq } : { delivered: seq }) })
    }
    case "repeat": {
      const earlier = device.sent.at(-1 - (one.target % 4))
      if (earlier === undefined) return
      // A device of the same user may have kept what another one sent.
      const other = one.on ? (devices.find((two) => two.user === device.user && two !== device) ?? device) : device
      return other.say(earlier.frame)
    }
    case "conflict": {
      const earlier = device.sent.at(-1 - (one.target % 4))
      if (earlier === undefined || typeof earlier.frame["body"] !== "string") return
      return device.say({ ...earlier.frame, body: `${text}, something else` })
    }
    case "create": {
      if (groups.length > 2) return
      const members = one.others.map(user)
      return command({ t: "create", rid, members, ...(one.on ? { title: text } : {}) })
    }
    case "add":
      if (group === undefined) return
      return command({ t: "members", rid, conv: group, add: [user(one.target), ...one.others.slice(0, 1).map(user)] })
    case "remove":
      if (group === undefined) return
      return command({ t: "members", rid, conv: group, remove: [user(one.target)] })
    case "leave":
      if (group === undefined) return
      return command({ t: "leave", rid, conv: group })
    case "title":
      return command({ t: "title", rid, conv: group ?? conv, title: text })
    case "history": {
      const where = one.target % 4
      const bound = 1 + (one.target % (head(conv) + 2))
      return device.say({
        t: "history",
        rid,
        conv,
        ...(where === 1
          ? { before: bound }
          : where === 2
            ? { after: bound - 1 }
            : where === 3
              ? { around: bound }
              : {}),
        ...(one.on ? { limit: 1 + (one.target % 5) } : {})
      })
    }
    case "sync":
      return device.say({
        t: "sync",
        rid,
        conv,
        after: one.target % (head(conv) + 2),
        ...(one.on ? { limit: 1 + (one.target % 5) } : {})
      })
    case "convs":
      return device.say({ t: "convs", rid, ...(one.on ? { limit: 1 + (one.target % 3) } : {}) })
    case "roster":
      return device.say({ t: "roster", rid, conv })
    case "typing":
      return device.say({ t: "typing", conv, on: one.on })
    case "stray":
      return device.say({ t: "history", rid, conv: `g:00000000-0000-8000-8000-00000000000${one.target % 10}` })
    case "disconnect":
      return device.disconnect()
    case "vanish":
      return device.vanish()
    case "stall":
      return device.stall(true)
    case "read-on":
      return device.stall(false)
    case "away":
      device.away = true
      return device.disconnect()
    case "back":
      device.away = false
      return device.connect()
    case "forget":
      return device.forget(one.on)
    case "hand-over":
      return world.handOver()
    case "usurp":
      return world.usurp(200 + one.conv * 300)
    case "pass-on":
      return world.broker.passOn()
    case "kill-writer":
      return places("writer")[one.target % 2]?.kill()
    case "kill-edge":
      return places("edge")[one.target % 2]?.kill()
    case "drain":
      return world.drain(one.target)
    case "lose-stream":
      return world.loseStream(one.target)
    case "kill-reader":
      return places("reader")[0]?.kill()
    case "freeze-writer": {
      const process = places("writer")[one.target % 2]
      return process === undefined ? undefined : world.interference.freeze(process, 500 + one.conv * 600)
    }
    case "freeze-reader": {
      const process = places("reader")[0]
      return process === undefined ? undefined : world.interference.freeze(process, 500 + one.conv * 300)
    }
    case "rebuild":
      return world.rebuild()
    case "reset-models":
      return world.resetModels()
    case "pause":
      return
  }
}

/** A plan as a person reads it. */
export const describePlan = (one: Plan): string =>
  [
    `seed ${one.seed}: ${one.users} users (${one.moreDevices} more devices), ${one.partitions} partitions, ${one.embedded ? "one server" : `${one.writers} writers, ${one.edges} edges`}, latency ${one.latency} ms`,
    ...one.faults.map(
      ({ kind, ms, nth, op }) => `  fault: call ${nth} of ${op}: ${kind}${/delay|freeze/.test(kind) ? ` ${ms} ms` : ""}`
    ),
    ...one.steps.map(
      ({ conv, on, others, target, wait, what, who }, index) =>
        `  ${String(index).padStart(2)}: ${wait > 0 ? `${wait} ms later, ` : ""}${what} (who ${who}, conv ${conv}, target ${target}, on ${on}${others.length > 0 ? `, others ${others.join()}` : ""})`
    )
  ].join("\n")
