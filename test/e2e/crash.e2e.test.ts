import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { check, type LogEvent } from "../support/checker.ts"
import { RealDevice } from "../support/real-device.ts"
import { type RunningServer, startServer } from "../support/server.ts"
import { devToken, greet } from "../support/ws.ts"

/** How often the server is killed. */
const KILLS = 20
/** The longest time of load before a kill; the moment within it is random. */
const LOAD_MS = 400
const USERS = ["ann", "bob", "cid", "dan", "eve", "fay"]
const DEADLINE_MS = 30_000

let server: RunningServer
beforeAll(async () => {
  server = await startServer({
    env: {
      LIMIT_PER_SECOND: "1000000",
      LIMIT_BURST: "1000000",
      LIMIT_IN_FLIGHT: "1000000",
      LIMIT_NEW_DMS_PER_HOUR: "1000000"
    }
  })
})
afterAll(() => server.dispose())

const until = async (what: () => string | undefined): Promise<void> => {
  const deadline = Date.now() + DEADLINE_MS
  for (let missing = what(); missing !== undefined; missing = what()) {
    if (Date.now() > deadline) assert.fail(`after ${DEADLINE_MS} ms: ${missing}\n${server.output()}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** All events of a conversation, read by one of its members. */
const readLog = async (user: string, convs: Iterable<string>): Promise<Record<string, ReadonlyArray<LogEvent>>> => {
  const reader = await greet(server.url, user, { device: "reader" })
  const log: Record<string, ReadonlyArray<LogEvent>> = {}
  for (const conv of convs) {
    const events: Array<LogEvent> = []
    for (let more = true, rid = 0; more; rid++) {
      reader.send({ t: "sync", rid: `${conv.slice(-40)} ${rid}`, conv, after: events.length })
      const reply = await reader.next("reply", (frame) => frame.t === "reply" || frame.t === "err")
      assert.strictEqual(reply.t, "reply", JSON.stringify(reply))
      for (const { at, by, cid, data, seq, type } of reply["events"] as ReadonlyArray<LogEvent>) {
        events.push({ seq, type, by, at, cid, data })
      }
      more = reply["more"] === true
    }
    log[conv] = events
  }
  reader.close()
  return log
}

describe("a server that is killed at any moment", () => {
  it(`loses, doubles and reorders nothing that it acknowledged (${KILLS} times)`, { timeout: 600_000 }, async () => {
    const devices: Array<RealDevice> = []
    for (const user of USERS) {
      const token = await devToken(server.url, user)
      for (const device of user < "c" ? ["phone", "laptop"] : ["phone"]) {
        devices.push(new RealDevice(server.wsUrl, user, `${user}-${device}`, token))
      }
    }
    devices.forEach((device) => device.connect())
    await until(() => (devices.every((device) => device.welcomed) ? undefined : "not everybody was welcomed"))
    devices[0]!.command({ t: "create", rid: "create", members: USERS })
    await until(() =>
      devices.every((device) => device.have.size === 1) ? undefined : "not everybody learned of the group"
    )
    const group = [...devices[0]!.have.keys()][0]!

    let sent = 0
    const load = setInterval(() => {
      for (const device of devices) {
        if (device.pending.length > 500) continue
        const to = USERS[Math.floor(Math.random() * USERS.length)]!
        const where = Math.random() < 0.3 ? { conv: group } : { to }
        device.command({ t: "send", ...where, body: `message ${++sent} of ${device.device}` })
      }
    }, 4)
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        const at = Date.now() + Math.random() * LOAD_MS
        await until(() => (Date.now() >= at && devices.some((device) => device.welcomed) ? undefined : "no load"))
        await server.kill9()
        await server.restart()
      }
    } finally {
      clearInterval(load)
    }
    await until(() => {
      const late = devices.find((device) => !device.welcomed || device.pending.length > 0)
      return late === undefined
        ? undefined
        : `${late.device} still has ${late.pending.length} commands without an answer`
    })

    const log: Record<string, ReadonlyArray<LogEvent>> = {}
    for (const user of USERS) {
      const convs = new Set(
        devices.filter((device) => device.user === user).flatMap((device) => [...device.have.keys()])
      )
      Object.assign(
        log,
        await readLog(
          user,
          [...convs].filter((conv) => !(conv in log))
        )
      )
    }
    await until(() => {
      for (const device of devices) {
        for (const [conv, seq] of device.have) {
          if (seq < log[conv]!.length) return `${device.device} has ${seq} of ${log[conv]!.length} in ${conv}`
        }
      }
      return undefined
    })
    devices.forEach((device) => device.end())

    const verdict = check({ clients: devices.map((device) => device.history), log, until: Date.now() })
    assert.deepStrictEqual(verdict.violations.slice(0, 5), [])
    const acknowledged = Object.values(log).reduce((sum, events) => sum + events.length, 0)
    assert.isAbove(acknowledged, 1_000, "there was load")
    for (const invariant of ["I1", "I3", "I4", "I5", "I10", "I12"]) {
      assert.isAbove(verdict.judged[invariant] ?? 0, 0, `${invariant} was judged`)
    }
  })
})
