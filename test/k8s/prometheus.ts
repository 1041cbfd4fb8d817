/** A real Prometheus, from Debian's package, that scrapes processes of a test. */
import { execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { canInstall, install } from "../../scripts/services/debian.ts"
import { freePort } from "../../scripts/services/ports.ts"
import { eventually } from "../../scripts/services/processes.ts"
import { inPath } from "../../scripts/services/run.ts"
import { Child } from "./child.ts"

export interface Target {
  readonly port: number
  readonly labels: Readonly<Record<string, string>>
}

export interface Prometheus {
  /** What a query answers now: its series, or the one number of a scalar. Fails with what Prometheus says against it. */
  readonly query: (expression: string) => Promise<ReadonlyArray<unknown>>
  readonly dispose: () => Promise<void>
}

/** Installs the package where it is missing, as root on Debian. */
const ensure = async (): Promise<void> => {
  if (inPath("prometheus") !== undefined && inPath("promtool") !== undefined) return
  if (!canInstall())
    throw new Error(
      "The tests of alerts and dashboards need Prometheus: install it so that prometheus and promtool are in PATH"
    )
  await install(["prometheus"], ["prometheus", "prometheus-node-exporter"])
}

/** What `promtool check rules` says against a file of rules; fails with it. */
export const checkRules = async (file: string): Promise<string> => {
  await ensure()
  return execFileSync("promtool", ["check", "rules", file], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
}

/** Runs `promtool test rules` on a file of tests; fails with what it says. */
export const testRules = async (file: string): Promise<void> => {
  await ensure()
  execFileSync("promtool", ["test", "rules", file], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
}

export const startPrometheus = async (folder: string, targets: ReadonlyArray<Target>): Promise<Prometheus> => {
  await ensure()
  mkdirSync(folder, { recursive: true })
  const port = await freePort()
  // JSON is YAML.
  const config = {
    global: { scrape_interval: "1s", scrape_timeout: "1s" },
    scrape_configs: [
      {
        job_name: "pods",
        static_configs: targets.map(({ labels, port }) => ({ targets: [`127.0.0.1:${port}`], labels }))
      }
    ]
  }
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config))
  const url = `http://127.0.0.1:${port}`
  const child = new Child("prometheus", [
    `--config.file=${join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`
  ])
  const ready = await eventually(60_000, async () => {
    if (!child.running) throw new Error(`Prometheus ended:\n${child.output}`)
    return await fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false
    )
  })
  if (!ready) throw new Error(`Prometheus did not start:\n${child.output}`)
  return {
    query: async (expression) => {
      const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`)
      const { data, error, status } = (await answer.json()) as {
        status: string
        error?: string
        data: { resultType: string; result: ReadonlyArray<unknown> }
      }
      if (status !== "success") throw new Error(`${expression}: ${error}`)
      return data.result
    },
    dispose: () => child.dispose()
  }
}
