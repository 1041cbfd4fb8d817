/** Traces of real processes, as a collector gets them by OTLP: one for each send, through every hop. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { expect, onTestFinished, test } from "vitest"
import { eventually } from "../../scripts/services/processes.ts"
import { startCluster } from "../support/cluster.ts"
import { makeGroup, say, talk } from "../support/talk.ts"

interface Span {
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly links: ReadonlyArray<{ readonly traceId: string }>
}

/** A collector that keeps what it is sent. */
const collector = async () => {
  const spans: Array<Span> = []
  let text = ""
  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk))
    request.on("end", () => {
      text += body
      for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
        const service = resource.attributes.find(({ key }: { key: string }) => key === "service.name").value.stringValue
        for (const scope of scopeSpans) spans.push(...scope.spans.map((span: object) => ({ ...span, service })))
      }
      response.writeHead(200, { "content-type": "application/json" }).end("{}")
    })
  }).listen(0, "127.0.0.1")
  await new Promise((resolve) => server.once("listening", resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { spans, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`, text: () => text }
}

const HOPS: Readonly<Record<string, string>> = {
  send: "darda-edge",
  publish: "darda-edge",
  commit: "darda-write",
  relay: "darda-write",
  project: "darda-read",
  deliver: "darda-edge"
}

test("a send is one trace through all hops, linked to those that went with it; nothing in it is a person's", async () => {
  const { spans, text, url } = await collector()
  await using cluster = await startCluster({
    env: { OTLP_TRACES_URL: url, TRACE_ONE_IN: "1", LIMIT_BURST: "1000", LOG_FORMAT: "json", LOG_LEVEL: "debug" }
  })
  const [edge] = cluster.edges
  const ann = await talk(edge!.url, "ann")
  const group = await makeGroup(ann, ["bob"])
  const bob = await talk(edge!.url, "bob")
  // Close behind each other, so that some of them share a batch, a commit and a step of the relay.
  const bodies = Array.from({ length: 30 }, (_, index) => `very private words ${index}`)
  await Promise.all(bodies.map((body) => say(ann, { conv: group }, body)))
  await bob.got("event")

  const traces = (): ReadonlyArray<ReadonlyArray<Span>> => [...Map.groupBy(spans, ({ traceId }) => traceId).values()]
  const hopsOf = (trace: ReadonlyArray<Span>) => Object.fromEntries(trace.map(({ name, service }) => [name, service]))
  const isWhole = (trace: ReadonlyArray<Span>) => Object.keys(HOPS).every((name) => name in hopsOf(trace))
  // The group's own creation is followed, too.
  await eventually(20_000, () => traces().filter(isWhole).length >= bodies.length + 1)

  const whole = traces().filter(isWhole)
  expect(whole.length).toBe(bodies.length + 1)
  for (const trace of whole) {
    expect(hopsOf(trace)).toEqual(HOPS)
    const root = trace.find(({ name }) => name === "send")!
    expect(root.parentSpanId).toBeUndefined()
    for (const span of trace) {
      if (span !== root) expect(span.parentSpanId).toBe(root.spanId)
      expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano))
    }
  }
  const ids = new Set(whole.map(([span]) => span!.traceId))
  const linked = whole.flat().filter(({ links, name }) => name === "commit" && links.length > 0)
  expect(linked.length).toBeGreaterThan(0)
  for (const { links, traceId } of linked)
    for (const link of links) expect(ids.has(link.traceId) && link.traceId !== traceId).toBe(true)
  expect(text()).not.toMatch(/private|ann|bob|token/)

  // The log of each role has a line for what it did for a send, with the trace that it is in.
  const parts: Readonly<Record<string, ReadonlyArray<string>>> = {
    edge: ["send", "publish", "deliver"],
    write: ["commit", "relay"],
    read: ["project"]
  }
  const processes = { edge: edge!, write: cluster.writers[0]!, read: cluster.readers[0]! }
  for (const [role, one] of Object.entries(processes)) {
    // The first of what is kept may be half a line.
    const lines = one.output.split("\n").slice(1, -1)
    const said = lines.map((line) => JSON.parse(line) as { message: string; traceId?: string; spanId?: string })
    for (const part of parts[role]!) {
      const followed = said.filter(({ message }) => message === `Followed: ${part}`)
      expect(followed.length).toBeGreaterThan(0)
      for (const { spanId, traceId } of followed)
        expect(spans.some((span) => span.spanId === spanId && span.traceId === traceId && span.name === part)).toBe(
          true
        )
    }
    expect(one.output).not.toMatch(/private words|"token"|Bearer|eyJ/)
  }
})
