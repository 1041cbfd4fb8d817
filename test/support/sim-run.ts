import { hash } from "node:crypto"
import { decodeCursor } from "../../src/edge/cursor.ts"
import { makeMemoryStore } from "../../src/read-side/StoreMemory.ts"
import { check, type History, type Violation } from "./checker.ts"
import { canonical } from "./checker-timeline.ts"
import { Device, type Surroundings } from "./sim-client.ts"
import type { Fault } from "./sim-handles.ts"
import { EPOCH, makeRandom, withMicrotasks } from "./sim-loop.ts"
import { perform, type Plan } from "./sim-plan.ts"
import { World } from "./sim-world.ts"

/** What became of a plan. */
export interface Outcome {
  readonly violations: ReadonlyArray<Violation>
  /** How many facts were judged, by invariant. */
  readonly judged: ReadonlyMap<string, number>
  readonly history: History
  /** The same for every run of the same plan. */
  readonly digest: string
  /** Faults that took place. */
  readonly fired: ReadonlyArray<Fault>
}

/** How long clients are given to come back and to have everything acked when nothing disturbs any more. */
const RECOVERY_MS = 60_000
/** Time without anything to do after that: commands are answered within 30 s, and devices are at the head within 5 s. */
const QUIET_MS = 32_000

/** Carries out a plan and judges what happened. */
export const simulate = (plan: Plan): Outcome => {
  const world = new World(plan)
  return withMicrotasks(world.loop, () => carryOut(plan, world))
}

const carryOut = (plan: Plan, world: World): Outcome => {
  const { evidence } = world.observer
  const { loop } = world
  const devices: Array<Device> = []
  const undisturbed =
    plan.faults.length === 0 &&
    !plan.steps.some(({ what }) => /hand-over|pass-on|usurp|kill|drain|freeze|reset|rebuild|lose/.test(what))
  const around: Surroundings = {
    clients: loop.process("clients"),
    latency: plan.latency,
    server: world.server,
    groups: [],
    onSocket: (device, socket) => {
      socket.onWrite = (frames) => {
        world.written += frames.length
        world.observer.written(device.user, frames)
        world.observer.queued(device.user, frames, undisturbed ? device.readingSince : undefined)
      }
    }
  }
  const names = ["ann", "bob", "cat", "dan"].slice(0, plan.users)
  names.forEach((name) => devices.push(new Device(around, name, `${name}-1`)))
  for (let i = 0; i < plan.moreDevices; i++) {
    const name = names[i % names.length]!
    devices.push(new Device(around, name, `${name}-${2 + Math.floor(i / names.length)}`))
  }
  loop.afterTask = () => world.observer.glance()
  for (const device of devices) device.connect()
  loop.advance(200)
  plan.steps.forEach((step, index) => {
    if (step.wait > 0) loop.advance(step.wait)
    else loop.settle()
    perform(world, devices, around.groups, step, index)
  })
  loop.settle()

  // Faults end, everybody comes back, what was sent is answered.
  world.interference.calm()
  for (const device of devices) {
    device.away = false
    device.stall(false)
    device.connect()
  }
  const begun = loop.now
  while (loop.now - begun < RECOVERY_MS && !devices.every((device) => device.settled)) loop.advance(250)
  for (const device of devices) {
    evidence.expect(
      "I11",
      device.settled,
      `${device.user}/${device.device}`,
      () =>
        `${device.connected ? "still waits for answers" : "is still not connected"}, ${RECOVERY_MS / 1000} s after the last fault`
    )
  }
  const quietFrom = loop.now
  loop.advance(QUIET_MS)
  world.observer.atRest()
  replayed(world)

  const history = historyOf(world, devices, quietFrom)
  const verdict = check(history)
  const judged = new Map(world.observer.evidence.judged)
  for (const [invariant, count] of Object.entries(verdict.judged))
    judged.set(invariant, (judged.get(invariant) ?? 0) + count)
  const defects = world.defects.map((message): Violation => ({ invariant: "defect", message, where: "process" }))
  return {
    violations: [...defects, ...evidence.violations, ...verdict.violations],
    judged,
    history,
    digest: digestOf(history),
    fired: world.interference.fired
  }
}

/** I15 and I16: the read models are what the log comes to, whatever the batches, and coming to it anew is nobody's business. */
const replayed = (world: World): void => {
  const { evidence } = world.observer
  const random = makeRandom(7)
  const fresh = makeMemoryStore(world.log.partitions)
  const at = world.log.heads().map(() => 0)
  while (!world.log.heads().every((head, partition) => at[partition]! >= head)) {
    const partition = random.below(at.length)
    // With repeats, and with batches that begin too far on.
    const from = Math.max(0, at[partition]! - random.below(3))
    const events = world.log.read(partition, from, 1 + random.below(6))
    at[partition] = fresh.apply([{ partition, events }])[partition]!
  }
  const expected = canonical(fresh.dump())
  const found = canonical(world.models.store.dump())
  evidence.expect(
    "I15",
    found === expected,
    "read models",
    () => `differ from the log's: ${difference(found, expected)}`
  )

  const written = world.written
  world.resetModels()
  world.loop.advance(5_000)
  evidence.expect(
    "I16",
    world.written === written,
    "clients",
    () => `were sent ${world.written - written} frames by a replay`
  )
  const again = canonical(world.models.store.dump())
  evidence.expect(
    "I15",
    again === expected,
    "read models",
    () => `differ after a replay: ${difference(again, expected)}`
  )

  const live = world.models.store
  world.rebuild()
  world.loop.advance(6_000)
  evidence.expect(
    "I16",
    world.written === written,
    "clients",
    () => `were sent ${world.written - written} frames by a rebuild`
  )
  const rebuilt = canonical(world.models.store.dump())
  evidence.expect(
    "I15",
    world.models.store !== live && rebuilt === expected,
    "read models",
    () =>
      `${world.models.store === live ? "were not rebuilt" : `differ after a rebuild: ${difference(rebuilt, expected)}`}`
  )
}

const difference = (found: string, expected: string): string => {
  let at = 0
  while (at < found.length && found[at] === expected[at]) at++
  return `…${found.slice(Math.max(0, at - 60), at + 60)}… instead of …${expected.slice(Math.max(0, at - 60), at + 60)}…`
}

const historyOf = (world: World, devices: ReadonlyArray<Device>, quietFrom: number): History => {
  const cursors: Record<string, Record<string, number>> = {}
  for (const device of devices) {
    for (const { entries } of device.sessions) {
      for (const entry of entries) {
        const cursor = entry.dir === "received" ? entry.frame["cursor"] : undefined
        if (typeof cursor !== "string" || cursors[cursor] !== undefined) continue
        const vector = decodeCursor(world.log.id, world.log.partitions, cursor)
        if (vector !== undefined) cursors[cursor] = world.observer.headsAt(vector)
      }
    }
  }
  const log = Object.entries(world.observer.timelines()).map(([conv, events]) => [
    conv,
    events.map(({ at, by, cid, data, seq, type }) => ({
      seq,
      type,
      by,
      at,
      cid,
      data: data as Record<string, unknown>
    }))
  ])
  return {
    clients: devices.map(({ device, sessions, user }) => ({ user, device, sessions })),
    log: Object.fromEntries(log) as History["log"],
    cursors,
    quietFrom,
    until: world.loop.now
  }
}

/** Without what is random by design: session ids and the id of the log. */
const digestOf = (history: History): string =>
  hash(
    "sha256",
    JSON.stringify([history.clients, history.log], (key, value: unknown) =>
      key === "sid" || key === "cursor" ? "" : value
    )
  ).slice(0, 16)

/** A history as a person reads it: what each device sent and received, and the log. */
export const describeHistory = ({ clients, log, quietFrom }: History): string => {
  const lines: Array<readonly [number, string]> = []
  for (const { device, sessions } of clients) {
    sessions.forEach(({ entries }, index) => {
      for (const entry of entries) {
        const frame =
          "frame" in entry
            ? JSON.stringify(entry.frame, (key, value: unknown) =>
                key === "sid" || key === "limits" ? undefined : value
              )
            : ""
        const arrow = {
          sent: "→",
          received: "←",
          opened: "opened",
          closed: "closed",
          stalled: "stalled",
          reading: "reads on"
        }[entry.dir]
        lines.push([entry.at, `${device}#${index + 1} ${arrow} ${frame}${entry.dir === "closed" ? entry.code : ""}`])
      }
    })
  }
  if (quietFrom !== undefined) lines.push([quietFrom, "--- quiet from here"])
  return [
    ...lines.sort(([a], [b]) => a - b).map(([at, text]) => `${String(at - EPOCH).padStart(7)} ${text}`),
    ...Object.entries(log).flatMap(([conv, events]) => [conv, ...events.map((event) => `  ${JSON.stringify(event)}`)])
  ].join("\n")
}
