import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import { checkLimits, checkNames, isServing } from "../../src/main/doctor/pod.ts"

const folder = mkdtempSync(join(tmpdir(), "darda-cgroup-"))
afterAll(() => rmSync(folder, { recursive: true }))

const limits = (memory: string, cpu: string): ReadonlyArray<string> => {
  writeFileSync(join(folder, "memory.max"), `${memory}\n`)
  writeFileSync(join(folder, "cpu.max"), `${cpu}\n`)
  return checkLimits(folder).map(({ mark, text }) => `${mark} ${text}`)
}

describe("the limits of a container", () => {
  it("are nothing where there are none, and where nobody tells them", () => {
    assert.deepStrictEqual(limits("max", "max 100000"), [])
    assert.deepStrictEqual(checkLimits(join(folder, "missing")), [])
  })

  it("are told, and are worth a word where they are in the way", () => {
    assert.deepStrictEqual(limits("1073741824", "max 100000"), ["✓ limited to 1.0 GiB of memory"])
    const [memory, processors] = limits("134217728", "50000 100000")
    assert.match(memory!, /^! limited to 128\.0 MiB of memory, and at least 256\.0 MiB are needed/)
    assert.match(processors!, /^! limited to 0\.5 processors, which stops everything for up to 100 ms/)
  })
})

describe("the names of engines", () => {
  const address = (url: string) => ({ url: Redacted.make(url), tls: { verify: true } })

  it("are looked up once each, without users, ports and numbers", async () => {
    const findings = await checkNames({
      mongo: address("mongodb://ann:secret@localhost:1,127.0.0.1:2,localhost:3/darda?replicaSet=rs0"),
      amqp: address("amqp://ann:secret@127.0.0.1:5672"),
      redis: address("rediss://:secret@[::1]:6379/0")
    })
    assert.strictEqual(findings.length, 1)
    assert.match(findings[0]!.text, /^the name localhost is found in \d+ ms/)
  })
})

describe("the port", () => {
  it("is a server's of ours only where that says so", async () => {
    let body = "{}"
    const server = createServer((_, response) => response.end(body)).listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const { port } = server.address() as AddressInfo
    assert.isFalse(await isServing({ port }))
    body = JSON.stringify({ status: "ok" })
    assert.isTrue(await isServing({ port }))
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    assert.isFalse(await isServing({ port }))
  })
})
