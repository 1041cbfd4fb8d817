/** One engine: the processes that make it, and how they are brought up. */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import type { Binaries } from "./binaries.ts"
import { type MongodOptions, mongodProgram, mongoMemberAnswers, mongoReady, mongoUrl } from "./mongod.ts"
import { freePort, isFree } from "./ports.ts"
import { alive, end, eventually, type Identity, launch, type Program, tail } from "./processes.ts"
import { amqpUrl, epmdProgram, rabbitAnswers, rabbitPorts, rabbitProgram } from "./rabbitmq.ts"
import { redisAnswers, redisProgram, redisUrl } from "./redis.ts"

export type Ports = Record<string, number>

export interface Part {
  readonly name: string
  /** Its data; its output lies beside it. */
  readonly folder: string
  /** The names of the ports that it listens on. */
  readonly ports: ReadonlyArray<string>
  readonly program: (files: Binaries, ports: Ports) => Program
  readonly answers: (ports: Ports) => Promise<boolean>
}

export interface Engine {
  readonly parts: ReadonlyArray<Part>
  readonly url: (ports: Ports) => string
  /** Waits at most `ms` until it takes work; `check` fails when that is in vain. */
  readonly ready: (ports: Ports, ms: number, check: () => void) => Promise<boolean>
}

/** What runs, and where. */
export interface Place {
  readonly ports: Ports
  readonly processes: Record<string, Identity>
  /** Keeps the two above, before anything goes on. */
  readonly save: () => void
  /** The processes end with this one. */
  readonly own: boolean
  /** Asked only when something is started. */
  readonly files: () => Promise<Binaries>
}

/** An engine starts in five seconds; this is for a machine that does many other things. */
const READY_MS = 120_000
const STOP_MS = 30_000

const port = (ports: Ports, name: string): number => ports[name] as number

export const mongo = (folder: string, options: MongodOptions & { readonly members: number }): Engine => {
  const names = Array.from({ length: options.members }, (_, index) => `mongod-${index + 1}`)
  const all = (ports: Ports) => names.map((name) => port(ports, name))
  return {
    parts: names.map((name) => ({
      name,
      folder: join(folder, name),
      ports: [name],
      program: ({ mongod }, ports) => mongodProgram(mongod, join(folder, name), port(ports, name), options),
      answers: (ports) => mongoMemberAnswers(port(ports, name))
    })),
    url: (ports) => mongoUrl(all(ports)),
    ready: (ports, ms, check) => mongoReady(all(ports), ms, check)
  }
}

/** Waits for the last of the parts. */
const lastAnswers =
  (parts: ReadonlyArray<Part>): Engine["ready"] =>
  (ports, ms, check) =>
    eventually(ms, () => {
      check()
      return (parts.at(-1) as Part).answers(ports)
    })

export const redis = (folder: string, args?: ReadonlyArray<string>): Engine => {
  const part: Part = {
    name: "redis",
    folder: join(folder, "redis"),
    ports: ["redis"],
    program: (files, ports) => redisProgram(files.redis, join(folder, "redis"), port(ports, "redis"), args),
    answers: (ports) => redisAnswers(port(ports, "redis"))
  }
  return { parts: [part], url: (ports) => redisUrl(port(ports, "redis")), ready: lastAnswers([part]) }
}

export const rabbit = (folder: string, settings?: ReadonlyArray<string>): Engine => {
  const parts: ReadonlyArray<Part> = [
    {
      name: "epmd",
      folder: join(folder, "epmd"),
      ports: ["epmd"],
      program: (_, ports) => epmdProgram(rabbitPorts(ports)),
      answers: () => Promise.resolve(true)
    },
    {
      name: "rabbitmq",
      folder: join(folder, "rabbitmq"),
      ports: ["rabbitmq", "rabbitmq-dist"],
      program: (files, ports) => rabbitProgram(files.rabbit, join(folder, "rabbitmq"), rabbitPorts(ports), settings),
      answers: (ports) => rabbitAnswers(rabbitPorts(ports))
    }
  ]
  return { parts, url: (ports) => amqpUrl(rabbitPorts(ports)), ready: lastAnswers(parts) }
}

/** What a server says whose port another has taken. */
const TAKEN = /address already in use|eaddrinuse|address in use/i

/** A part ended while it was waited for. */
class Ended extends Error {}

/** The last 4,000 characters that it wrote since its start. */
export const outputOf = (part: Part): string => tail(`${part.folder}.log`)

const running = (part: Part, { processes }: Place): boolean => {
  const known = processes[part.name]
  return known !== undefined && alive(known)
}

const checkRunning = (parts: ReadonlyArray<Part>, place: Place): void => {
  for (const part of parts) {
    if (!running(part, place)) throw new Ended(`${part.name} ended before it answered:\n${outputOf(part)}`)
  }
}

const launchPart = async (part: Part, place: Place): Promise<void> => {
  mkdirSync(part.folder, { recursive: true, mode: 0o700 })
  const program = part.program(await place.files(), place.ports)
  place.processes[part.name] = await launch(program, `${part.folder}.log`, place.own)
  place.save()
}

/** Starts what does not run, on its former ports where they are free, and waits until the engine takes work. */
export const bring = async (engine: Engine, place: Place, tries = 3): Promise<void> => {
  for (const part of engine.parts) {
    if (running(part, place)) continue
    for (const name of part.ports) place.ports[name] = await freePort(place.ports[name])
    place.save()
    await launchPart(part, place)
  }
  try {
    if (!(await engine.ready(place.ports, READY_MS, () => checkRunning(engine.parts, place))))
      throw new Error(`${engine.parts.map(({ name }) => name).join(", ")}: no answer after ${READY_MS / 1000} s`)
    // It was these that answered, and no stranger on their port.
    checkRunning(engine.parts, place)
  } catch (cause) {
    // Between the look for a free port and the start, another took it.
    if (!(cause instanceof Ended && TAKEN.test(cause.message) && tries > 1)) throw cause
    await bring(engine, place, tries - 1)
  }
}

/** Starts that part alone, on the ports it had, and waits until it answers. */
export const bringPart = async (part: Part, place: Place): Promise<void> => {
  if (!running(part, place)) {
    for (const name of part.ports) {
      if (!(await eventually(STOP_MS, () => isFree(port(place.ports, name)))))
        throw new Error(`${part.name}: another has its port ${port(place.ports, name)} now`)
    }
    await launchPart(part, place)
  }
  const ready = await eventually(READY_MS, () => {
    checkRunning([part], place)
    return part.answers(place.ports)
  })
  if (!ready) throw new Error(`${part.name} does not answer after ${READY_MS / 1000} s`)
}

/** Ends its parts, the last first; at once, or in order. */
export const takeDown = async (engine: Engine, place: Place, atOnce: boolean): Promise<void> => {
  for (const { name } of engine.parts.toReversed()) {
    const known = place.processes[name]
    if (known === undefined) continue
    await end(known, atOnce ? 0 : STOP_MS)
    delete place.processes[name]
    place.save()
  }
}
