/** Alerts and dashboards, over the metrics of the roles as they run: every query finds something, and nothing alarms that is well. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, onTestFinished, test } from "vitest"
import { eventually } from "../../scripts/services/processes.ts"
import { DardaProcess } from "../support/process.ts"
import { makeGroup, say, talk } from "../support/talk.ts"
import { ofKind } from "./cluster.ts"
import { startPods } from "./pods.ts"
import { checkRules, startPrometheus, testRules } from "./prometheus.ts"
import { installed, type Manifest, render } from "./render.ts"

const operations = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8")
const production = render("production")
const groups: ReadonlyArray<Manifest> = ofKind(production, "PrometheusRule").flatMap(({ spec }) => spec.groups)
const alerts: ReadonlyArray<Manifest> = groups.flatMap(({ rules }) => rules)
const dashboards: ReadonlyArray<Manifest> = ofKind(production, "ConfigMap")
  .filter(({ metadata }) => metadata.labels.grafana_dashboard === "1")
  .flatMap(({ data }) => Object.values<string>(data).map((text) => JSON.parse(text)))

const emptyFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "darda-monitoring-"))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

test("the alerts are right by Prometheus' own tool", async () => {
  const file = join(emptyFolder(), "rules.yaml")
  writeFileSync(file, JSON.stringify({ groups }))
  expect(await checkRules(file)).toContain(`${alerts.length} rules found`)
  writeFileSync(
    file,
    JSON.stringify({ groups: [{ name: "broken", rules: [{ alert: "A", expr: "sum(rate(x[5m]) > 0" }] }] })
  )
  await expect(checkRules(file)).rejects.toThrow(/unclosed left parenthesis|parse error/)
})

test.each(alerts.map((alert) => [alert.alert as string, alert] as const))(
  "%s has a severity and a section of what to do",
  (name, { annotations, labels }) => {
    expect(["critical", "warning"]).toContain(labels.severity)
    expect(annotations.runbook).toBe(`docs/operations.md#${name.toLowerCase()}`)
    const section = new RegExp(`^### ${name}\\n\\n(.+)`, "m").exec(operations)?.[1] ?? ""
    expect(section.length).toBeGreaterThan(40)
  }
)

/** Which alerts are on after some minutes of these series, each with the labels that are its own. */
const on = (
  alertNames: ReadonlyArray<string>,
  series: Readonly<Record<string, string>>,
  found: ReadonlyArray<string>
) => ({
  interval: "15s",
  input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
  promql_expr_test: [
    {
      expr: `count by (alertname, role) (ALERTS{alertname=~"${alertNames.join("|")}", alertstate="firing"})`,
      eval_time: "10m",
      exp_samples: found.map((labels) => ({ labels, value: 1 }))
    }
  ]
})

test("what is not there at all is missed, too, and what has no limit is not full", async () => {
  const folder = emptyFolder()
  writeFileSync(join(folder, "rules.yaml"), JSON.stringify({ groups }))
  const up = (role: string, pod = 0): string => `up{job="darda/darda", pod="${role}-${pod}", role="${role}"}`
  const gone = ["DardaRoleGone", "DardaMongoDown", "DardaRedisDown"]
  const well = { [up("edge")]: "1x60", [up("write")]: "1x60", [up("read")]: "1x60" }
  const engines = { darda_mongodb_up: "1x60", darda_redis_up: "1x60" }
  const roleGone = (role: string): string => `{alertname="DardaRoleGone", role="${role}"}`
  const tests = [
    on(gone, {}, ["edge", "read", "write"].map(roleGone)),
    on(gone, { ...well, ...engines, [up("edge", 1)]: "0x60" }, []),
    // No pod of the readers has a place, the writers' do not answer.
    on(gone, { [up("edge")]: "1x60", [up("write")]: "0x60", ...engines }, ["read", "write"].map(roleGone)),
    // The writers wait for MongoDB at their start, and tell nothing yet.
    on(gone, well, [`{alertname="DardaMongoDown"}`, `{alertname="DardaRedisDown"}`]),
    on(["DardaRedisMemoryHigh"], { darda_redis_memory_bytes: "900x60", darda_redis_memory_limit_bytes: "0x60" }, []),
    on(["DardaRedisMemoryHigh"], { darda_redis_memory_bytes: "900x60", darda_redis_memory_limit_bytes: "1000x60" }, [
      `{alertname="DardaRedisMemoryHigh"}`
    ])
  ]
  const file = join(folder, "tests.yaml")
  writeFileSync(file, JSON.stringify({ rule_files: ["rules.yaml"], evaluation_interval: "15s", tests }))
  await testRules(file)
})

/** An alert's expression in two: what is measured, and when it is too much. */
const parts = (expression: string): readonly [measured: string, comparison: string] => {
  const [, measured, comparison] = /^(.*) ([<>] [\d.e]+)$/s.exec(expression) ?? []
  if (measured === undefined || comparison === undefined)
    throw new Error(`${expression}: no measurement, comparison and number`)
  return [measured, comparison]
}

/** What Grafana puts in the place of its variables. */
const filled = (expression: string): string =>
  expression.replaceAll("$namespace", "darda").replaceAll("$pod", ".*").replaceAll("$__rate_interval", "1m")

const queries: ReadonlyArray<readonly [title: string, expression: string]> = dashboards.flatMap(({ panels }) =>
  panels.flatMap(({ targets = [], title }: Manifest) =>
    targets.map(({ expr }: Manifest) => [title as string, filled(expr)] as const)
  )
)

test("the dashboard has its rows, its variables, and no panel over another", () => {
  expect(dashboards).toHaveLength(1)
  const [{ panels, templating }] = dashboards as [Manifest]
  const rows = panels.filter(({ type }: Manifest) => type === "row").map(({ title }: Manifest) => title)
  expect(rows).toEqual(["Overview", "Edge", "Pipeline", "Engines"])
  expect(templating.list.map(({ name }: Manifest) => name)).toEqual(["datasource", "namespace", "pod"])
  expect(new Set(panels.map(({ id }: Manifest) => id)).size).toBe(panels.length)
  const taken = new Set<string>()
  for (const { gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken).not.toContain(`${x} ${y}`)
        taken.add(`${x} ${y}`)
      }
    }
  }
  expect(queries.length).toBeGreaterThan(50)
})

test("every query of the dashboard and of the alerts finds data in what the roles tell, and no alert is on", async () => {
  const folder = emptyFolder()
  const pods = await startPods(installed("dev"), join(folder, "engines"))
  onTestFinished(() => pods.dispose())
  const start = async (role: string, more: Readonly<Record<string, string>> = {}): Promise<DardaProcess> => {
    const started = await DardaProcess.make(["serve", "--roles", role], { ...pods.environments[role], ...more })
    onTestFinished(() => started.dispose())
    await started.start()
    return started
  }
  const write = await start("write")
  const read = await start("read")
  const edge = await start("edge", { READ_URL: read.url })
  const labels = (role: string) => ({ job: "darda/darda", namespace: "darda", pod: `${role}-0`, role })
  const prometheus = await startPrometheus(join(folder, "prometheus"), [
    { port: edge.port, labels: labels("edge") },
    { port: write.port, labels: labels("write") },
    { port: read.port, labels: labels("read") },
    { port: pods.rabbitMetricsPort, labels: { job: "darda/rabbitmq", namespace: "darda", pod: "rabbitmq-0" } }
  ])
  onTestFinished(() => prometheus.dispose())

  // People: they come, talk, leave, come back where they were, and ask over HTTP.
  const ann = await talk(edge.url, "ann")
  const group = await makeGroup(ann, ["bob"])
  let told = 0
  const chat = async () => await say(ann, { conv: group }, `message ${++told}`)
  const comeBack = async () => {
    const first = await talk(edge.url, "bob")
    await chat()
    const { cursor } = await first.got("cursor")
    await first.leave()
    await chat()
    const again = await talk(edge.url, "bob", { resume: { cursor } })
    await again.got("event")
    await again.leave()
  }

  const missing = async (): Promise<ReadonlyArray<string>> => {
    await comeBack()
    await fetch(`${edge.url}/v1/conversations`)
    const asked = [...queries, ...alerts.map(({ alert, expr }) => [alert as string, parts(expr)[0]] as const)]
    const found = await Promise.all(
      asked.map(async ([title, expression]) => {
        const series = (await prometheus.query(expression)) as ReadonlyArray<{
          readonly value: readonly [number, string]
        }>
        return series.some(({ value }) => value[1] !== "NaN") ? [] : [`${title}: ${expression}`]
      })
    )
    return found.flat()
  }
  let last: ReadonlyArray<string> = []
  await eventually(60_000, async () => (last = await missing()).length === 0)
  expect(last).toEqual([])
  const alarmed = await Promise.all(
    alerts.map(async ({ alert, expr }) => ((await prometheus.query(expr)).length > 0 ? [alert as string] : []))
  )
  expect(alarmed.flat()).toEqual([])
  // RabbitMQ counts its memory against its container's limit, not against the machine's memory.
  const [limit] = (await prometheus.query("rabbitmq_resident_memory_limit_bytes")) as ReadonlyArray<{
    readonly value: readonly [number, string]
  }>
  expect(Number(limit?.value[1])).toBeLessThanOrEqual(1_200 * 2 ** 20)
}, 300_000)
