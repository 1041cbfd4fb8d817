import { MongoClient } from "mongodb"
import { execFile, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, onTestFinished, test } from "vitest"
import { binaries } from "../../scripts/services/binaries.ts"
import { bring, mongo, type Place, takeDown } from "../../scripts/services/engine.ts"
import { alive, end, eventually, identify, signal } from "../../scripts/services/processes.ts"

const script = fileURLToPath(new URL("../../scripts/services.ts", import.meta.url))

const emptyFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "darda-services-"))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Runs the command as a developer does, on a folder of its own. */
const services = (folder: string, ...args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | string | undefined; readonly out: string; readonly err: string }>((resolve) => {
    const env = { ...process.env, DARDA_SERVICES_FOLDER: folder }
    execFile(process.execPath, [script, ...args], { env }, (cause, out, err) =>
      resolve({ code: cause === null ? 0 : (cause.code ?? undefined), out, err })
    )
  })

test("up starts what does not run, status tells, down leaves nothing", async () => {
  const folder = emptyFolder()
  onTestFinished(async () => void (await services(folder, "down")))
  expect(await services(folder, "status")).toMatchObject({ code: 3, out: "" })

  const first = await services(folder, "up", "--json")
  expect(first).toMatchObject({ code: 0, err: "" })
  const { mongoUrl, amqpUrl, redisUrl, pids } = JSON.parse(first.out)
  expect(Object.keys(pids).sort()).toEqual(["epmd", "mongod-1", "rabbitmq", "redis"])
  const lines = `export MONGO_URL='${mongoUrl}'\nexport AMQP_URL='${amqpUrl}'\nexport REDIS_URL='${redisUrl}'\n`
  expect(await services(folder, "up")).toEqual({ code: 0, out: lines, err: "" })
  expect(await services(folder, "status")).toEqual({ code: 0, out: lines, err: "" })
  expect(await services(folder, "up", "--members", "3")).toMatchObject({ code: 2, out: "" })
  expect(await services(folder, "up", "--test-commands")).toMatchObject({ code: 2, out: "" })

  await using client = new MongoClient(mongoUrl)
  await client.db().collection("kept").insertOne({ a: 1 })
  for (const name of ["mongod-1", "redis"]) await end(identify(pids[name])!, 0)
  const half = await services(folder, "status")
  expect(half).toMatchObject({ code: 1, out: lines })
  expect(half.err).toContain("No answer from mongod-1, redis")

  const again = await services(folder, "up", "--json")
  expect(again.code).toBe(0)
  const now = JSON.parse(again.out)
  expect(now).toMatchObject({ mongoUrl, amqpUrl, redisUrl, pids: { epmd: pids.epmd, rabbitmq: pids.rabbitmq } })
  expect(now.pids["mongod-1"]).not.toBe(pids["mongod-1"])
  expect(await client.db().collection("kept").countDocuments()).toBe(1)

  expect(await services(folder, "down")).toEqual({ code: 0, out: "", err: "" })
  expect(Object.values<number>(now.pids).map(identify)).toEqual([undefined, undefined, undefined, undefined])
  expect(await services(folder, "down")).toMatchObject({ code: 0 })
  expect(await services(folder, "status")).toMatchObject({ code: 3 })
})

test("a replica set whose port another took goes on at a new one", async () => {
  const folder = emptyFolder()
  const engine = mongo(folder, { members: 1, testCommands: false, cacheGb: 0.25 })
  const place: Place = { ports: {}, processes: {}, save: () => {}, own: true, files: binaries }
  onTestFinished(() => takeDown(engine, place, true))
  const insert = async () => {
    await using client = new MongoClient(engine.url(place.ports))
    await client.db().collection("kept").insertOne({ a: 1 })
    return await client.db().collection("kept").countDocuments()
  }
  await bring(engine, place)
  expect(await insert()).toBe(1)
  await takeDown(engine, place, false)
  const former = place.ports["mongod-1"]
  await using taker = createServer((socket) => socket.destroy()).listen(former, "127.0.0.1")
  expect(await eventually(5000, () => taker.listening)).toBe(true)
  await bring(engine, place)
  expect(place.ports["mongod-1"]).not.toBe(former)
  expect(await insert()).toBe(2)
})

test("a process that has the number of one that ended is left alone", async () => {
  const stranger = spawn("sleep", ["60"])
  const known = identify(stranger.pid!)!
  expect(alive(known)).toBe(true)
  const former = { ...known, born: known.born.replace(/\d+$/, "1") }
  expect(alive(former)).toBe(false)
  expect(signal(former, "SIGKILL")).toBe(false)
  await end(former, 0)
  expect(alive(known)).toBe(true)
  await end(known, 0)
  expect(alive(known)).toBe(false)
})

test("what is asked wrongly is answered with how to ask", async () => {
  const folder = emptyFolder()
  for (const args of [[], ["start"], ["up", "--members", "2"], ["up", "down"]]) {
    const said = await services(folder, ...args)
    expect(said).toMatchObject({ code: 2, out: "" })
    expect(said.err).toContain("usage:")
  }
})
