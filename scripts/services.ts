// The engines of a cluster on this machine, for development: `npm run --silent services -- up|down|status [--json] [--members 1|3]`.
import { parseArgs } from "node:util"
import { servicesFolder } from "./services/folders.ts"
import { down, type Running, status, up } from "./services/stack.ts"

const USAGE = `usage: npm run --silent services -- up|down|status [--json] [--members 1|3]`

const print = ({ mongoUrl, amqpUrl, redisUrl, pids }: Running, json: boolean): void => {
  if (json) console.log(JSON.stringify({ mongoUrl, amqpUrl, redisUrl, pids }))
  else console.log(`export MONGO_URL='${mongoUrl}'\nexport AMQP_URL='${amqpUrl}'\nexport REDIS_URL='${redisUrl}'`)
}

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      members: { type: "string" },
      "test-commands": { type: "boolean" }
    }
  })
  const members = values.members === "1" ? 1 : values.members === "3" ? 3 : undefined
  if (positionals.length !== 1 || (values.members !== undefined && members === undefined)) throw new Error(USAGE)
  switch (positionals[0]) {
    case "up": {
      print(await up(servicesFolder, { ...(members === undefined ? {} : { members }) }), values.json)
      return 0
    }
    case "down":
      await down(servicesFolder)
      return 0
    case "status": {
      const running = await status(servicesFolder)
      if (running === undefined) {
        console.error("No engine of this checkout runs")
        return 3
      }
      print(running, values.json)
      if (running.missing.length === 0) return 0
      console.error(`Not there: ${running.missing.join(", ")}`)
      return 1
    }
    default:
      throw new Error(USAGE)
  }
}

// What was put aside on this machine is put back, by what runs at the exit.
for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143]
] as const)
  process.once(name, () => process.exit(code))

try {
  process.exitCode = await main()
} catch (cause) {
  console.error((cause as Error).message)
  process.exitCode = 2
}
