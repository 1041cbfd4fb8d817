/** Read processes behind one address that leads to any of them, as the Service of a cluster does: they come and go, and who asks an edge does not notice. */
import { assert, it, onTestFinished } from "@effect/vitest"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { makeCluster } from "../support/cluster.ts"
import { withRoles } from "../support/operator.ts"
import type { DardaProcess } from "../support/process.ts"
import { httpAs, say, talk, unique } from "../support/talk.ts"
import { until } from "../support/until.ts"

const ASKING = 24
const ANSWERS = 300

/** An address behind which are those in `ready`. Connections that were made stay when theirs is taken out, as they do in a cluster. */
const balancer = async (ready: Set<DardaProcess>) => {
  let turn = 0
  const server = createServer((client) => {
    const targets = [...ready]
    const behind = connect(targets[turn++ % targets.length]!.port, "127.0.0.1")
    const cut = (one: Socket, other: Socket) =>
      one.on("error", () => other.destroy()).on("close", () => other.destroy())
    cut(client, behind)
    cut(behind, client)
    client.pipe(behind).pipe(client)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

it("read processes behind one address leave, die and come back, and every question is answered", async () => {
  const { env } = await makeCluster({ edges: 0, writers: 0, readers: 0 })
  const start = async (roles: string, more: Readonly<Record<string, string>> = {}): Promise<DardaProcess> => {
    const one = await withRoles(roles, { ...env, ...more })
    onTestFinished(() => one.dispose())
    await one.start()
    return one
  }
  const [one, other] = await Promise.all([start("read"), start("read"), start("write")])
  const ready = new Set([one, other])
  const many = { LIMIT_PER_SECOND: "1000000", LIMIT_BURST: "1000000" }
  const edge = await start("edge", { READ_URL: await balancer(ready), ...many })

  const [ann, ben] = [unique("ann"), unique("ben")]
  await say(await talk(edge.url, ann), { to: ben }, "hello")
  const http = await httpAs(edge.url, ann)
  const statuses = new Map<number, number>()
  let asking = true
  const asked = Promise.all(
    Array.from({ length: ASKING }, async () => {
      while (asking) {
        const { status } = await http.get("/v1/conversations")
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }
    })
  )
  /** Until so many more were answered, one way or another. */
  const goOn = async (): Promise<void> => {
    const count = () => [...statuses.values()].reduce((sum, one) => sum + one, 0)
    const from = count()
    await until("questions are answered", 30_000, () => count() >= from + ANSWERS)
  }
  await goOn()
  for (const leaving of [one, other, one]) {
    ready.delete(leaving)
    assert.strictEqual(await leaving.stop(), 0, leaving.output)
    await goOn()
    await leaving.start()
    ready.add(leaving)
    await goOn()
  }
  for (const dying of [one, other]) {
    ready.delete(dying)
    await dying.kill9()
    await goOn()
    await dying.start()
    ready.add(dying)
    await goOn()
  }
  asking = false
  await asked
  assert.deepStrictEqual([...statuses.keys()], [200], `${JSON.stringify([...statuses])}\n${edge.output.slice(-4_000)}`)
})
