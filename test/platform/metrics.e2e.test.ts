/** What each role tells Prometheus once people have talked: nothing that somebody would look for is missing, and nothing in it is a person's. */
import { assert, describe, it } from "@effect/vitest"
import { eventually } from "../../scripts/services/processes.ts"
import { startCluster } from "../support/cluster.ts"
import { startServer } from "../support/server.ts"
import { makeGroup, say, talk, unique } from "../support/talk.ts"

/** Of every process. */
const PROCESS = [
  "memory_bytes",
  "heap_bytes",
  "event_loop_lag_milliseconds",
  "gc_milliseconds_total",
  "cpu_milliseconds_total",
  'closes_total{code="4001"}',
  'connects_refused_total{reason="full"}'
]
const EDGE = [
  "connections",
  "connects_total",
  "frames_received_total",
  "frames_sent_total",
  "received_bytes_total",
  "sent_bytes_total",
  "accepted_to_persisted_milliseconds_count",
  "persisted_to_delivered_milliseconds_count",
  "attach_milliseconds_count",
  "resumed_conversations_count",
  "holes_total",
  "stream_losses_total",
  "hedged_sent_total",
  "hedged_live_total",
  "hedged_unlive_total",
  "query_retries_total",
  'http_requests_total{method="POST",status="200"}',
  "http_request_milliseconds_count"
]
const WRITE = [
  "commits_total",
  "commands_total",
  "events_total",
  "commit_milliseconds_count",
  "commands_per_commit_count",
  "commit_retries_total",
  "conversation_hits_total",
  "conversation_misses_total",
  "relay_waiting_commits",
  "outbox_overdue_entries",
  "outbox_oldest_seconds",
  "outbox_recovered_total"
]
const READ = ["read_models_behind_events", "read_models_behind_seconds"]
/** Of those that work with the engines. */
const ENGINES = ["redis_reconnects_total", "bus_reconnects_total", "bus_blocked", "dead_letters_total"]
const OF_ENGINES = [
  "log_retries_total",
  "mongodb_up",
  'mongodb_members{state="primary"}',
  "mongodb_replication_lag_seconds",
  "mongodb_oplog_window_seconds",
  "mongodb_connections",
  "mongodb_connections_available",
  "mongodb_cache_bytes",
  "mongodb_cache_dirty_bytes",
  "mongodb_cache_limit_bytes",
  "redis_up",
  "redis_memory_bytes",
  "redis_memory_limit_bytes",
  "redis_clients",
  "redis_operations_per_second",
  "redis_evicted_keys_total",
  "redis_replicas",
  "redis_replica_lag_bytes"
]

const LABELS = new Set(["code", "le", "method", "reason", "state", "status"])

/** Everything of ours that a process tells, by its name with its labels. */
const told = async (url: string): Promise<ReadonlyMap<string, string>> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  return new Map(Array.from(text.matchAll(/^darda_(\S+) (\S+)/gm), ([, name, value]) => [name!, value!]))
}

/** Waits until a process tells all of this, some of which it measures every few seconds. */
const tells = async (url: string, names: ReadonlyArray<string>): Promise<ReadonlyMap<string, string>> => {
  let found: ReadonlyMap<string, string> = new Map()
  const missing = () => names.filter((name) => (found.get(name) ?? "NaN") === "NaN")
  await eventually(30_000, async () => {
    found = await told(url)
    return missing().length === 0
  })
  assert.deepStrictEqual(missing(), [])
  for (const name of found.keys())
    for (const [, label] of name.matchAll(/(\w+)="/g)) assert.isTrue(LABELS.has(label!), `a label in ${name}`)
  return found
}

/** Two people: they talk, and one of them leaves and comes back where they were. */
const people = async (url: string): Promise<void> => {
  const ann = await talk(url, unique("ann"))
  const bob = unique("bob")
  const group = await makeGroup(ann, [bob])
  const first = await talk(url, bob)
  await say(ann, { conv: group }, "very private words")
  await first.got("event")
  const { cursor } = await first.got("cursor")
  await first.leave()
  await say(ann, { conv: group }, "more of them")
  const again = await talk(url, bob, { resume: { cursor } })
  await again.got("event")
  await again.leave()
}

describe("the metrics", () => {
  it("of one process have all that it does", async () => {
    await using server = await startServer()
    await people(server.url)
    const found = await tells(server.url, [...PROCESS, ...EDGE, ...WRITE, ...READ, "disk_free_bytes"])
    assert.strictEqual(found.get("connects_total"), "3")
    assert.strictEqual(found.get("mongodb_up"), undefined)
  })

  it("of each role have what it does, and those who write tell how the engines are", async () => {
    await using cluster = await startCluster()
    const [edge] = cluster.edges
    await people(edge!.url)
    await tells(edge!.url, [...PROCESS, ...EDGE, ...ENGINES, "query_breakers_open", "bus_retries_total"])
    await tells(cluster.readers[0]!.url, [...PROCESS, ...READ, ...ENGINES])
    const found = await tells(cluster.writers[0]!.url, [...PROCESS, ...WRITE, ...ENGINES, ...OF_ENGINES])
    const number = (name: string): number => Number(found.get(name))
    assert.strictEqual(number("mongodb_up"), 1)
    assert.strictEqual(number('mongodb_members{state="primary"}'), 1)
    assert.strictEqual(number('mongodb_members{state="other"}'), 0)
    assert.isAbove(number("mongodb_cache_limit_bytes"), number("mongodb_cache_bytes"))
    assert.isAbove(number("redis_memory_bytes"), 500_000)
    assert.isAbove(number("redis_clients"), 0)
    // Of those who do not work with MongoDB nobody expects it.
    assert.isFalse((await told(edge!.url)).has("mongodb_up"))
  })
})
